/**
 * The shape of a TOML configuration: which keys there are, and what kind of value each takes. From it comes the JSON
 * Schema that editors use. What a text says, such as an address, is checked where it is read; a `pattern` here is
 * for editors alone, and coarser.
 *
 * The message of each check says what would have been right.
 */
import * as v from "valibot";
import {
  BALANCE_DEFAULT,
  BALANCES,
  QUEUE_DEFAULT,
  SIBLINGS_MAX,
  UNIX_PATH_MAX,
  WAIT_MS_DEFAULT,
} from "../model/target.ts";
import { LISTENER_DEFAULTS, REGISTRY_DEFAULTS, SERVER_DEFAULTS } from "./configuration.ts";
import { DURATION_PATTERN, DURATIONS } from "./duration.ts";
import { PROXY_KEYS } from "./proxy.ts";
import { addresses, flag, named, oneOrMore, table, text, whole } from "./schema-parts.ts";
import { PORT_FIRST, PORT_LAST } from "./words.ts";

const QUEUE_LAST = 1_000_000;
export const WAIT_SECONDS_LAST = 3600;
/** Four bytes carry the number of a slot in a registration. */
export const SLOT_LAST = 0xffffffff;
const WORKERS_LAST = 64;
const BACKLOG_LAST = 0x7fffffff;
/** -1 means "no change" to setresuid(2). */
const ID_LAST = 0xfffffffe;

export const PORTS = `${PORT_FIRST} to ${PORT_LAST}, or a range such as "8000-8010"`;
export const RECEIVERS = '"unix:/path", "unix:@name", "fd:N" or "slot:N"';
export const ACTIONS = '"unix:/path", "unix:@name", "fd:N", "slot:N", "table:NAME", "target:NAME" or "deny"';

export const SLOTS = `0 to ${SLOT_LAST}, or a name in [slots]`;
export const ALLOWS = "[[registry.allow]]";
const MODES = 'permission bits in octal, such as "0660"';
const PER_USER_LAST = 100_000;

const BALANCE_WORDS = BALANCES.map((balance) => JSON.stringify(balance)).join(", ");
/** Each connection looks at all of them. */
const RECEIVERS_LAST = 64;

const RECEIVER_PATTERN = "unix:[/@].+|fd:[0-9]+|slot:.+";

const ports = (description: string) => {
  const number = whole(PORT_FIRST, PORT_LAST, {}, PORTS);
  const item = v.union([number, text(PORTS, { pattern: "^[0-9]+(-[0-9]+)?$" })], PORTS);
  return oneOrMore(item, PORTS, { description, examples: [443, "8000-8010"] });
};

const identity = (noun: string, description: string) => {
  const expected = `a ${noun}'s name or number`;
  return v.pipe(
    v.union([text(expected, {}), whole(0, ID_LAST, {}, expected)], expected),
    v.metadata({ description }),
  );
};

const SlotSchema = v.union([whole(0, SLOT_LAST, {}, SLOTS), text(SLOTS, {})], SLOTS);

const ServerSchema = table(
  {
    user: v.optional(
      identity("user", "Run as this user, and in its primary group unless `group` says otherwise."),
    ),
    group: v.optional(identity("group", "Run in this group.")),
    groups: v.optional(
      v.pipe(
        v.array(identity("group", "A supplementary group."), "a list of groups"),
        v.metadata({ description: "Supplementary groups to keep. None unless given." }),
      ),
    ),
    chroot: v.optional(
      text("an absolute path", { description: "Change the root folder to this.", pattern: "^/" }),
    ),
    workers: v.optional(
      whole(1, WORKERS_LAST, { description: "Threads that accept.", default: SERVER_DEFAULTS.workers }),
    ),
  },
  { description: "What the server itself runs as." },
);

const ListenSchema = table(
  {
    name: v.optional(text("a name", { description: "What routes call this listener.", examples: ["web"] })),
    address: v.optional(
      text("an address", {
        description: "The address to listen on. A link-local one ends in % and the number of its interface.",
        default: "::",
        examples: ["::1", "192.0.2.1", "fe80::1%2"],
      }),
    ),
    port: v.optional(
      whole(0, PORT_LAST, {
        description: "The port to listen on; with 0 the kernel chooses one.",
        default: LISTENER_DEFAULTS.port,
      }),
    ),
    transparent: flag({
      description: "Set IPV6_TRANSPARENT, needed behind TPROXY.",
      default: LISTENER_DEFAULTS.transparent,
    }),
    freebind: flag({
      description: "Set IPV6_FREEBIND: the address need not exist yet.",
      default: LISTENER_DEFAULTS.freebind,
    }),
    "reuse-address": flag({ description: "Set SO_REUSEADDR.", default: LISTENER_DEFAULTS.reuseAddress }),
    "reuse-port": flag({
      description: "Set SO_REUSEPORT: share the port with others that do.",
      default: LISTENER_DEFAULTS.reusePort,
    }),
    backlog: v.optional(
      whole(1, BACKLOG_LAST, {
        description: "How many connections the kernel keeps until they are accepted.",
        default: LISTENER_DEFAULTS.backlog,
      }),
    ),
    "clear-transparent": flag({
      description: "Clear IPV6_TRANSPARENT on every accepted socket before it is handed over.",
      default: LISTENER_DEFAULTS.clearTransparent,
    }),
    netns: v.optional(
      text("a name or an absolute path", {
        description: "Listen in this network namespace: a name below /run/netns, or a path.",
        pattern: "^(/.+|[^/]+)$",
      }),
    ),
    device: v.optional(
      text("an interface's name", {
        description: "Take connections from this network interface only (SO_BINDTODEVICE).",
        examples: ["eth0"],
      }),
    ),
    ...PROXY_KEYS,
  },
  { description: "Where the server listens." },
);

const RouteSchema = table(
  {
    local: addresses("The address that the client connected to."),
    port: ports("The port that the client connected to."),
    remote: addresses("The address of the client."),
    "remote-port": ports("The port of the client."),
    listener: oneOrMore(text("a listener's name", {}), "a listener's name", {
      description: "The listener that the connection came in by.",
    }),
    to: text(ACTIONS, {
      description: "Where the connection goes.",
      pattern: `^(${RECEIVER_PATTERN}|table:.+|target:.+|deny)$`,
      examples: ["unix:/run/web", "unix:/run/app/{port}", "target:web", "table:internal", "deny"],
    }),
  },
  { description: "The first route that fits is taken. What a route does not name, it does not compare." },
);

const routes = (header: string) =>
  v.optional(v.pipe(v.array(RouteSchema, header), v.metadata({ description: "Routes, in order." })));

const ReceiverSchema = text(RECEIVERS, { pattern: `^(${RECEIVER_PATTERN})$` });

const TargetSchema = table(
  {
    to: v.pipe(
      v.union(
        [
          ReceiverSchema,
          v.pipe(
            v.array(ReceiverSchema, RECEIVERS),
            v.minLength(1, RECEIVERS),
            v.maxLength(RECEIVERS_LAST, `at most ${RECEIVERS_LAST}`),
          ),
        ],
        RECEIVERS,
      ),
      v.metadata({
        description: `The receiver, or several that share the connections. A path has at most ${UNIX_PATH_MAX} bytes.`,
        examples: ["unix:/run/web"],
      }),
    ),
    balance: v.optional(
      v.pipe(
        v.picklist(BALANCES, BALANCE_WORDS),
        v.metadata({
          description:
            "Which receiver takes a connection: the next, the one that fewest wait for, or the one of its client.",
          default: BALANCE_DEFAULT,
        }),
      ),
    ),
    fallback: flag({
      description: "Let another receiver take the connection when its own is missing or full.",
      default: false,
    }),
    spread: flag({
      description: `Let each path stand for PATH, PATH.1 … PATH.${SIBLINGS_MAX}, whichever of them are there.`,
      default: false,
    }),
    queue: v.optional(
      whole(1, QUEUE_LAST, {
        description: "How many connections may wait, for all receivers together.",
        default: QUEUE_DEFAULT,
      }),
    ),
    wait: v.optional(
      v.pipe(
        v.union(
          [
            v.pipe(
              v.number(DURATIONS),
              v.minValue(0, DURATIONS),
              v.maxValue(WAIT_SECONDS_LAST, `0 to ${WAIT_SECONDS_LAST}`),
            ),
            text(DURATIONS, { pattern: DURATION_PATTERN }),
          ],
          DURATIONS,
        ),
        v.metadata({
          description: "How long a connection may wait for it: seconds, or a text with a unit.",
          default: WAIT_MS_DEFAULT / 1000,
          examples: [10, "500ms", "2m"],
        }),
      ),
    ),
  },
  { description: "A receiver with settings, or several. Routes call it `target:NAME`." },
);

const AllowSchema = table(
  {
    slot: v.pipe(
      v.union([SlotSchema, v.pipe(v.array(SlotSchema, SLOTS), v.minLength(1, SLOTS))], SLOTS),
      v.metadata({ description: "The slots that may be taken.", examples: ["web", 7] }),
    ),
    user: oneOrMore(identity("user", "A user who may take them."), "a user's name or number", {
      description: "The users who may take them. Unless given: whoever may connect.",
    }),
    takeover: flag({
      description: "Hand a slot that is taken over to whoever asks for it, instead of refusing.",
      default: false,
    }),
  },
  { description: "Who may take which slots." },
);

const RegistrySchema = table(
  {
    path: text("/path or @name", {
      description: "Where its socket is bound.",
      pattern: "^[/@].+",
      examples: ["/run/socketbox/registry"],
    }),
    mode: v.optional(
      v.pipe(
        v.string(MODES),
        v.regex(/^0?[0-7]{3}$/, MODES),
        v.metadata({ description: "Its permission bits.", default: "0660" }),
      ),
    ),
    owner: v.optional(identity("user", "Its owner.")),
    group: v.optional(identity("group", "Its group.")),
    "per-user": v.optional(
      whole(1, PER_USER_LAST, {
        description: "The most registrations that one user may have open.",
        default: REGISTRY_DEFAULTS.perUser,
      }),
    ),
    allow: v.pipe(
      v.array(AllowSchema, ALLOWS),
      v.minLength(1, ALLOWS),
      v.metadata({ description: "Who may take which slots; what is not allowed is refused." }),
    ),
  },
  { description: "Where receivers register for slots." },
);

export const DocumentSchema = table(
  {
    server: v.optional(ServerSchema),
    listen: v.optional(
      v.pipe(v.array(ListenSchema, "[[listen]]"), v.metadata({ description: "Where the server listens." })),
    ),
    route: routes("[[route]]"),
    table: named(
      table({ route: routes("[[table.NAME.route]]") }, { description: "Routes call it `table:NAME`." }),
      "[[table.NAME.route]]",
      "Further tables of routes, by name.",
    ),
    target: named(TargetSchema, "[target.NAME]", "Receivers with settings, by name."),
    registry: v.optional(
      v.pipe(
        v.array(RegistrySchema, "[[registry]]"),
        v.metadata({ description: "Where receivers register for slots." }),
      ),
    ),
    slots: named(
      whole(0, SLOT_LAST, { description: "Its number." }),
      "NAME = NUMBER",
      "Names for slots. Routes call them `slot:NAME`.",
    ),
  },
  { description: "Configuration of socketbox" },
);

export type Document = v.InferInput<typeof DocumentSchema>;
