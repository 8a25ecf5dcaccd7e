/** A daemon of the matrix: how it is configured, asked and restarted, and how it shows that it knows its client. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Daemon {
  /** The row of docs/COMPATIBILITY.md. */
  readonly name: string;
  /** What is special about this row. */
  readonly tried: string;
  /** A program, searched on PATH. */
  readonly binary: string;
  /** What else must be there. */
  readonly need?: { readonly name: string; readonly met: () => boolean };
  /** Prints the version somewhere in its output. */
  readonly version: readonly string[];
  /** Files it needs (made once), and the command that runs it in the foreground. It listens on port 80. */
  readonly prepare: (folder: string) => string[];
  /** What a client sends, each character a byte. */
  readonly question: string;
  /** With the client's address in it, or else `log` shows that. */
  readonly answer: RegExp;
  /** What it answers instead while it starts or stops, which is for the client to deal with. */
  readonly refusal?: { readonly answer: RegExp; readonly told: string };
  /** The client hangs up when the answer contains this; without it, the daemon does. */
  readonly enough?: string;
  /** A file in which the daemon names its client. */
  readonly log?: { readonly file: string; readonly pattern: RegExp };
  /** Whether the server's address is in the answer or the log, too. */
  readonly tellsServer?: boolean;
  /**
   * How it is replaced while clients come. `reload`: this signal to the running daemon, and it does the rest. `stop`:
   * this signal, which lets it finish what it serves; then it is started again. `cut`: the same, but it does not finish
   * what it has accepted, for the reason that `why` tells; over TCP as well. `upgrade`: nginx executes its program anew
   * (USR2), and the old one finishes (QUIT).
   */
  readonly restart:
    | { readonly kind: "reload" | "stop"; readonly signal: NodeJS.Signals }
    | {
        readonly kind: "cut";
        readonly signal: NodeJS.Signals;
        readonly why: string;
        /** It does not catch the signal, which ends it inside accept, too: what that has taken counts as accepted. */
        readonly uncaught?: true;
      }
    | { readonly kind: "upgrade" };
  /** Through addresses of the original instead of a map: its variables, and the path of the receiver. */
  readonly original?: (folder: string) => { variables: Record<string, string>; path: string };
}

/** The addresses of clients and of the server, which differ so that one cannot pass for the other. */
export const CLIENT = "127.0.0.9";
export const SERVER = "127.0.0.80";

export const HTTP = "GET / HTTP/1.0\r\n\r\n";
/** The client of IPv4 or IPv6, as a program of either family writes it. */
export const FROM = /from (127\.0\.0\.9|::ffff:127\.0\.0\.9|::1)\./;

export function write(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Runs a command that prepares something, outside the library. */
export function must(argv: string[]): void {
  const { exitCode, stderr, stdout } = Bun.spawnSync(argv);
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr}${stdout}`);
}

/** Writes a program in an interpreted language, and runs it. */
export function script(name: string, text: string, ...interpreter: string[]): Daemon["prepare"] {
  return (folder) => [...interpreter, write(folder, name, text)];
}
