/** Programs started the way a service manager does: with sockets from descriptor 3 on, and a socket to report to. */
import { readlinkSync } from "node:fs";
import { Fd } from "../../src/io/fd.ts";
import { SOCK } from "../../src/io/socket.ts";
import { cString, native } from "../../src/native/library.ts";
import { bin, type Options, PATIENCE_MS, Running } from "./running.ts";

/** A socket that was passed, by its name. */
export type Passed = readonly [name: string, fd: number];

/** Starts one of our programs with these sockets, as systemd.exec(5) would. */
export function passing(
  name: string,
  args: readonly string[],
  passed: readonly Passed[],
  options: Options = {},
): Running {
  const env = {
    ...options.env,
    ...(passed.length > 0 && {
      LISTEN_FDS: String(passed.length),
      LISTEN_FDNAMES: passed.map(([socket]) => socket).join(":"),
    }),
  };
  // The process id is only known in the process itself.
  const command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", bin(name), ...args];
  return new Running(command, { ...options, env, stdio: passed.map(([, fd]) => fd) });
}

/** One message to the manager. */
export interface Notice {
  readonly text: string;
  /** The descriptor in it, which is the reader's. */
  readonly fd: number | undefined;
}

/** A service manager's end of the notify socket (sd_notify(3)), which keeps what is stored with it. */
export class FakeManager implements Disposable {
  readonly path: string;
  readonly #fd: Fd;
  readonly notices: Notice[] = [];
  readonly #stored: [name: string, fd: number][] = [];

  constructor(path: string) {
    this.path = path;
    this.#fd = Fd.from(native.sb_bind_unix(cString(path), SOCK.datagram, 0o666), `bind ${path}`);
  }

  get env(): Record<string, string> {
    return { NOTIFY_SOCKET: this.path };
  }

  /** Descriptors that it keeps, as a restarted service would get them. */
  get stored(): readonly Passed[] {
    this.read();
    return this.#stored;
  }

  /** Everything that has come. */
  read(): readonly Notice[] {
    const buffer = new Uint8Array(4096);
    const fd = new Int32Array(1);
    for (;;) {
      const length = native.sb_receive_message(this.#fd.number, buffer, buffer.length, fd);
      if (length < 0) return this.notices;
      const notice = {
        text: new TextDecoder().decode(buffer.subarray(0, length)),
        fd: fd[0]! < 0 ? undefined : fd[0]!,
      };
      this.notices.push(notice);
      this.#keep(notice);
    }
  }

  /** Waits for a notice that matches. */
  async until(pattern: RegExp): Promise<string> {
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await Bun.sleep(2)) {
      const found = this.read().find(({ text }) => pattern.test(text));
      if (found) return found.text;
    }
    throw new Error(`no ${pattern} in ${JSON.stringify(this.notices)}`);
  }

  [Symbol.dispose](): void {
    for (const [, fd] of this.stored) native.sb_close(fd);
    this.#fd.close();
  }

  #keep({ text, fd }: Notice): void {
    const name = /^FDNAME=(.*)$/m.exec(text)?.[1] ?? "";
    if (/^FDSTORE=1$/m.test(text) && fd !== undefined) {
      // As in systemd, the same socket is kept once.
      const same = this.#stored.some((entry) => inodeOf(entry[1]) === inodeOf(fd));
      if (same) native.sb_close(fd);
      else this.#stored.push([name, fd]);
    }
    if (!/^FDSTOREREMOVE=1$/m.test(text)) return;
    for (const entry of this.#stored.filter(([stored]) => stored === name)) {
      native.sb_close(entry[1]);
      this.#stored.splice(this.#stored.indexOf(entry), 1);
    }
  }
}

function inodeOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}
