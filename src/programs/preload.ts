/**
 * `socketbox-preload`: becomes a program whose listeners are receivers. Everything that can be known beforehand is
 * found out here: a map that cannot be read, a program that the library would not get into.
 */
import {
  formatMap,
  formatRange,
  isCompact,
  MAX_MAPPINGS,
  type Mapping,
  parseMapping,
  unreachable,
} from "../config/mapping.ts";
import { elfOf, examine, type Loaded } from "../io/executable.ts";
import { libraryFile } from "../io/library-file.ts";
import { exec, findProgram, inheritedFds, passOn, startedWith } from "../io/spawn.ts";
import { type Address, formatPlain, isMapped } from "../model/address.ts";
import { preloadLibraries } from "../native/assets.ts";
import { bindDecision, type Decision } from "../native/decision.ts";
import { check, errnoName } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { EXIT, Failure, type Host, ownEnvironment } from "./host.ts";

export interface MapOptions {
  /** SPECs, first match first. */
  readonly specs: readonly string[];
  /** What becomes of all other binds; `undefined`: what an outer map says, or else they are denied. */
  readonly otherwise: "deny" | "direct" | undefined;
}

export interface PreloadOptions extends MapOptions {
  readonly command: readonly string[];
  /** Whether the library stays with programs that the program executes with a cleaned environment. */
  readonly follow: boolean;
  readonly ioUring: boolean;
}

/** An address to bind to. */
export interface BindQuestion {
  readonly address: Address;
  readonly port: number;
  readonly scope: number;
}

/** Variables of the original that make its addresses mean something. */
const ROOTS = ["SKBOX_DIRECTORY_ROOT", "SKBOX_DIRECTORY_ROOT2"];
const ANY = { address: undefined, first: 0, last: 65535 };

/** Becomes the program; returns by throwing only. */
export function preload(host: Host, options: PreloadOptions): never {
  const inherited = inheritedFds();
  const started = startedWith(host.env.SOCKETBOX_STARTED);
  const environment = environmentFor(host, options);
  const program = findProgram(options.command[0]!, host.env.PATH);
  const library = libraryFor(host, program);
  const env = {
    ...environment,
    ...(options.follow ? {} : { SOCKETBOX_FOLLOW: "0" }),
    LD_PRELOAD: withLibrary(host.env.LD_PRELOAD, library),
  };
  if (!options.ioUring) check(native.sb_refuse_io_uring(), "refuse io_uring");
  passOn(inherited);
  exec({ program, argv: options.command, env }, started);
}

/** Prints what would become of each bind. Exit code 1 when one would be refused. */
export function checkBinds(host: Host, options: MapOptions, questions: readonly BindQuestion[]): number {
  const environment = environmentFor(host, options);
  const decisions = questions.map((question) => bindDecision(environment, question));
  for (const [index, decision] of decisions.entries()) {
    if (typeof decision === "string") throw new Failure(EXIT.usage, decision);
    host.out(`${formatQuestion(questions[index]!)} ${formatDecision(decision)}\n`);
  }
  const refused = decisions.some(
    (decision) => typeof decision !== "string" && decision.outcome === "refused",
  );
  return refused ? EXIT.refused : EXIT.ok;
}

/** Prints the path of the library, for the C library of `program`, or for glibc. */
export function printPath(host: Host, program: string | undefined): number {
  const path = program
    ? libraryFor(host, findProgram(program, host.env.PATH))
    : placed(() => libraryFile("glibc", host.env));
  host.out(`${path}\n`);
  return EXIT.ok;
}

/** The environment of the program, apart from the library itself: the map and the variables can be read. */
function environmentFor(host: Host, options: MapOptions): Record<string, string | undefined> {
  const environment = ownEnvironment(host.env);
  const map = mapFor(host, options);
  const rooted = ROOTS.some((name) => environment[name]);
  if (map === undefined && !rooted) {
    throw new Failure(
      EXIT.usage,
      `nothing is mapped: expected --map SPEC, or one of ${ROOTS.join(" and ")} in the environment`,
    );
  }
  environment.SOCKETBOX_MAP = map;
  const probe = bindDecision(environment, { address: new Uint8Array(16), port: 0, scope: 0 });
  if (typeof probe === "string") throw new Failure(EXIT.usage, probe);
  return environment;
}

/** SOCKETBOX_MAP for the library; `undefined`: there is none, and the original's addresses count alone. */
function mapFor(host: Host, { specs, otherwise }: MapOptions): string | undefined {
  const given = host.env.SOCKETBOX_MAP;
  const outer = given !== undefined && isCompact(given) ? given : undefined;
  const words = given !== undefined && outer === undefined ? given.split(/\s+/).filter(Boolean) : [];
  const mappings = [
    ...specs.map((spec) => mapping("--map", spec)),
    ...words.map((spec) => mapping("SOCKETBOX_MAP", spec)),
  ];
  const shadowed = unreachable(mappings);
  if (shadowed) {
    const [late, early] = [shadowed.late, shadowed.early].map(formatRange);
    throw new Failure(EXIT.usage, `--map: ${late} is never reached: ${early} before it takes the same binds`);
  }
  if (mappings.length === 0 && otherwise === undefined) return outer;
  const last: Mapping[] =
    otherwise === "direct"
      ? [{ ...ANY, action: { kind: "direct" } }]
      : otherwise === "deny" || outer === undefined
        ? [{ ...ANY, action: { kind: "deny", error: "EACCES" } }]
        : [];
  const lines = formatMap([...mappings, ...last]) + (last.length === 0 ? outer : "");
  if (lines.split("\n").length - 1 > MAX_MAPPINGS + 1)
    throw new Failure(EXIT.usage, `--map: there are too many; at most ${MAX_MAPPINGS} are possible`);
  return lines;
}

function mapping(from: string, spec: string): Mapping {
  const parsed = parseMapping(spec, process.cwd());
  if (typeof parsed === "string") throw new Failure(EXIT.usage, `${from} ${spec}: ${parsed}`);
  return parsed;
}

function libraryFor(host: Host, program: string): string {
  const loaded = examined(program, host.env.PATH);
  if ("refusal" in loaded) {
    const through = loaded.path === program ? "" : ` (which ${program} leads to)`;
    throw new Failure(EXIT.refused, `${loaded.path}${through} ${loaded.refusal}`);
  }
  return placed(() => libraryFile(loaded.libc, host.env));
}

function examined(program: string, path: string | undefined): Loaded {
  const library = elfOf(preloadLibraries.glibc);
  if (!library) throw new Failure(EXIT.internal, `${preloadLibraries.glibc} is not a library`);
  try {
    return examine(program, library, path);
  } catch (error) {
    if (error instanceof Error && "code" in error) throw new Failure(EXIT.system, error.message);
    throw error;
  }
}

function placed(find: () => string): string {
  try {
    return find();
  } catch (error) {
    throw new Failure(EXIT.system, error instanceof Error ? error.message : String(error));
  }
}

/** LD_PRELOAD with the library first, so that no other wrapper stands before it. */
function withLibrary(others: string | undefined, library: string): string {
  const rest = (others ?? "").split(/[\s:]+/).filter((path) => path && path !== library);
  return [library, ...rest].join(":");
}

function formatQuestion({ address, port }: BindQuestion): string {
  return isMapped(address) ? `${formatPlain(address)}:${port}` : `[${formatPlain(address)}]:${port}`;
}

function formatDecision(decision: Decision): string {
  switch (decision.outcome) {
    case "direct":
      return "is bound for real";
    case "receiver":
      return `receives connections at ${decision.path}`;
    case "stream":
      return `listens at ${decision.path}, a Unix stream socket`;
    case "linkLocal":
      return `is bound for real, to fe80:: and the last 64 bits, on interface ${decision.scope}`;
    case "refused":
      return `is refused: ${errnoName(decision.errno)}`;
  }
}
