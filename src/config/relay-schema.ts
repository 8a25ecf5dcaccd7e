/** The shape of a relay's TOML file, as schema.ts is for the server's. */
import * as v from "valibot";
import { durationSchema as duration } from "./duration.ts";
import { PROXY_KEYS } from "./proxy.ts";
import { BALANCES, CONNECTIONS_MAX, RELAY_DEFAULTS } from "./relay.ts";
import { INLETS, NAT64_PREFIXES, PER_SOURCE, UPSTREAMS } from "./relay-words.ts";
import { oneOrMore, table, text, whole } from "./schema-parts.ts";

const UPSTREAM_PATTERN = "^(\\[[^\\]]+\\]:[0-9]+|[^:\\[\\]]+:[0-9]+|unix:[/@].+)$";

const choice = <const Choices extends readonly [string, ...string[]]>(
  choices: Choices,
  description: string,
  byDefault?: string,
) =>
  v.optional(
    v.pipe(
      v.picklist(choices, choices.map((one) => JSON.stringify(one)).join(", ")),
      v.metadata({ description, ...(byDefault !== undefined && { default: byDefault }) }),
    ),
  );

const { timeouts } = RELAY_DEFAULTS;

const RelaySchema = table(
  {
    name: v.optional(text("a name", { description: "What log lines call it.", examples: ["web"] })),
    from: text(INLETS, {
      description: "Where connections come from: a socket to bind, a slot of a server, an inherited socket.",
      pattern: "^(unix:[/@].+|slot:[0-9]+:.+|fd:[0-9]+|systemd:.+)$",
      examples: ["unix:/run/web", "slot:3:/run/registry", "fd:3", "systemd:web"],
    }),
    to: v.nonOptional(
      oneOrMore(text(UPSTREAMS, { pattern: UPSTREAM_PATTERN }), UPSTREAMS, {
        description: "The target, or several. Port 0 is the port that the client connected to.",
        examples: ["[::1]:8080", "192.0.2.1:80", "web.example:80", "[fe80::1%eth0]:80", "unix:/run/app"],
      }),
      "there is no target",
    ),
    balance: choice(BALANCES, "Which of several targets comes first.", RELAY_DEFAULTS.balance),
    retry: duration("How long a target that could not be reached is tried last.", RELAY_DEFAULTS.retryMs),
    nat64: v.optional(
      text(NAT64_PREFIXES, {
        description: "Carry over what follows this prefix in the address that the client connected to.",
        pattern: "/(96|64)$",
        examples: ["64:ff9b::/96"],
      }),
    ),
    source: v.optional(
      text('"client" or an address', {
        description: 'Connect from this address; "client" is the client\'s own, and needs CAP_NET_ADMIN.',
        examples: ["client", "192.0.2.7"],
      }),
    ),
    netns: v.optional(
      text("a name or an absolute path", {
        description: "Reach targets in this network namespace: a name below /run/netns, or a path.",
      }),
    ),
    "send-proxy": choice(["v1", "v2"], "Send a PROXY protocol header of this version first."),
    "client-netns": v.optional(
      text("a name", { description: "What a v2 header calls the network namespace that clients are in." }),
    ),
    ...PROXY_KEYS,
    "connect-timeout": duration(
      "How long a target may take to answer; 0: as long as the kernel tries.",
      timeouts.connect,
    ),
    "idle-timeout": duration("How long no byte may move; 0: for ever.", timeouts.idle),
    "half-closed-timeout": duration("The same, once one side has finished.", timeouts.halfClosed),
    "total-timeout": duration("How long a connection may last; 0: for ever.", timeouts.total),
    max: v.optional(
      whole(1, CONNECTIONS_MAX, {
        description: "How many connections at a time; more wait.",
        default: CONNECTIONS_MAX,
      }),
    ),
    "per-source": v.optional(
      v.pipe(
        v.union([whole(1, CONNECTIONS_MAX, {}, PER_SOURCE), text(PER_SOURCE, {})], PER_SOURCE),
        v.metadata({
          description:
            "How many from one IPv4 address, or from one IPv6 prefix of LENGTH bits (64); more are refused.",
          examples: [100, "20/56"],
        }),
      ),
    ),
  },
  { description: "One relay." },
);

export const RelayDocumentSchema = table(
  {
    relay: v.pipe(
      v.array(RelaySchema, "[[relay]]"),
      v.minLength(1, "[[relay]]"),
      v.metadata({ description: "Relays, each with its own source of connections." }),
    ),
  },
  { description: "Configuration of socketbox-relay" },
);

export type RelayDocument = v.InferInput<typeof RelayDocumentSchema>;
