/**
 * The configuration file over the life of a server. After a chroot its path may lead nowhere, and after the
 * privileges are gone its mode may forbid it, so the file that was read first is kept open: rewritten in place it can
 * still be read. A descriptor of its folder would find a replaced file too, but would also be a way out of the chroot.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { decodeText, unreadable } from "./configure.ts";
import { EXIT, Failure } from "./host.ts";

const CHUNK = 65_536;

export class SourceFile {
  readonly path: string;
  #fd: number;
  #hidden = false;

  /** Throws a Failure when the file cannot be opened. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, "r");
    } catch (error) {
      throw unreadable(path, error);
    }
  }

  /** From now on its path means something else, or nothing: the root folder has changed. */
  hide(): void {
    this.#hidden = true;
  }

  /** The text as it is now. Throws a Failure that says why it cannot be had. */
  read(): string {
    const fd = this.#reopen();
    if (fd !== undefined) {
      closeSync(this.#fd);
      this.#fd = fd;
    }
    return decodeText(this.path, this.#contents());
  }

  #contents(): Buffer {
    try {
      return contents(this.#fd);
    } catch (error) {
      throw unreadable(this.path, error);
    }
  }

  /** The file that is at the path now; `undefined` where the one that is open already is still it. */
  #reopen(): number | undefined {
    if (this.#hidden) {
      if (fstatSync(this.#fd).nlink > 0) return undefined;
      throw restartNeeded(`${this.path} was replaced, and the chroot hides the new one`);
    }
    try {
      return openSync(this.path, "r");
    } catch (error) {
      if (this.#isStillThere()) return undefined;
      throw restartNeeded((error as Error).message);
    }
  }

  #isStillThere(): boolean {
    try {
      const [open, named] = [fstatSync(this.#fd), statSync(this.path)];
      return open.dev === named.dev && open.ino === named.ino;
    } catch {
      return fstatSync(this.#fd).nlink > 0; // its folder is not for us to look into any more
    }
  }
}

/** From the beginning, wherever the last reading ended; a pipe has only one beginning. */
function contents(fd: number): Buffer {
  if (!fstatSync(fd).isFile()) return readFileSync(fd);
  const chunks: Buffer[] = [];
  for (let at = 0; ; at += chunks.at(-1)!.length) {
    const chunk = Buffer.alloc(CHUNK);
    const count = readSync(fd, chunk, 0, CHUNK, at);
    if (count === 0) return Buffer.concat(chunks);
    chunks.push(chunk.subarray(0, count));
  }
}

/** What a running server cannot do, and a new one could. */
export function restartNeeded(reason: string): Failure {
  return new Failure(EXIT.refused, `restart needed: ${reason}`);
}
