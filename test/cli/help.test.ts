import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { call } from "../kit/called.ts";
import { ROOT } from "../kit/running.ts";

/** Without the spaces at the ends of lines, which nobody sees. */
async function help(name: string, ...argv: string[]): Promise<string> {
  const { out } = await call(name, [...argv, "--help"]);
  return `\n${out.replace(/ +$/gm, "")}`;
}

test("socketbox --help", async () => {
  expect(await help("socketbox")).toMatchInlineSnapshot(`
    "
    One listening socket, many daemons: hands each connection to the daemon its address belongs to. (socketbox)

    USAGE socketbox [OPTIONS] [PROGRAM ARG…]

    OPTIONS

           -f, --config=<FILE>    configuration file (Default: /etc/socketbox.conf)
          -l, --address=<ADDR>    address to listen on, perhaps with %INTERFACE (default ::, all)
             -p, --port=<PORT>    port to listen on (default 80)
             -t, --transparent    set IPV6_TRANSPARENT, needed behind TPROXY
                -F, --freebind    set IPV6_FREEBIND: the address need not exist yet
               -R, --exclusive    do not set SO_REUSEADDR
              -r, --reuse-port    set SO_REUSEPORT: share the port
             -b, --backlog=<N>    listen backlog (default 4096)
             -s, --socket=<FD>    listen on this inherited socket
      -P, --register=<NR:PATH>    take slot NR of another server
       -z, --clear-transparent    clear IPV6_TRANSPARENT on what is accepted
          -S, --send-to=<PATH>    no rules: all to the receiver at PATH
            -i, --send-fd=<FD>    no rules: all over this inherited socket
             --takeover=<PATH>    go on where the server at PATH is, and wait there for the next one
              -U, --substitute    fill #//0_ … #//7_, #//P_ in paths
             -u, --user=<USER>    run as this user, in its primary group
           -g, --group=<GROUP>    run in this group
           -G, --groups=<LIST>    supplementary groups to keep, a,b,c
             -k, --keep-groups    leave supplementary groups alone
            -x, --chroot=<DIR>    change the root folder
                  -d, --daemon    go to the background once it listens
                    -e, --exec    bind, then become the program that follows
                    -h, --help    print this text
                 -V, --version    print the version

    COMMANDS

      socketbox check [-f FILE]                   say all that is wrong with a configuration
      socketbox explain [-f FILE] LOCAL REMOTE    say where a connection would go, and why

    A FILE whose name ends in .toml is TOML, any other is in the line format. -l or -p replace all listeners of the
    FILE; other options about listeners apply to each of them. With -e, SKBOX_LISTEN_FD holds the listener's number.
    SIGHUP reads FILE again, and goes on with the old one where the new one will not do.
    SIGTERM accepts what has come, delivers what waits, then stops; a second one stops at once.

    EXIT CODES

      0  it was told to stop           3  the system refused: address in use, no permission …
      1  the configuration is wrong    11 the peer of -i or -P has gone
      2  the command line is wrong     70 a fault of socketbox
    "
  `);
});

test("socketbox check --help", async () => {
  expect(await help("socketbox", "check")).toMatchInlineSnapshot(`
    "
    Reads a configuration and says all that is wrong with it. (socketbox check)

    USAGE socketbox check [OPTIONS]

    OPTIONS

      -f, --config=<FILE>    configuration file (Default: /etc/socketbox.conf)
               -h, --help    print this text

    Exit code 0: it can be used. 1: it would be refused.
    "
  `);
});

test("socketbox explain --help", async () => {
  expect(await help("socketbox", "explain")).toMatchInlineSnapshot(`
    "
    Says where a connection would go, and which routes decide it. (socketbox explain)

    USAGE socketbox explain [OPTIONS] LOCAL REMOTE [LISTENER]

    OPTIONS

      -f, --config=<FILE>    configuration file (Default: /etc/socketbox.conf)
               -h, --help    print this text

    LOCAL and REMOTE follow: [2001:db8::1]:22, 192.0.2.1:22; a third word names the listener.
    "
  `);
});

test("socketbox-inetd --help", async () => {
  expect(await help("socketbox-inetd")).toMatchInlineSnapshot(`
    "
    Starts PROGRAM for each connection that is received at SOCKET. (socketbox-inetd)

    USAGE socketbox-inetd [OPTIONS] SOCKET PROGRAM [ARG…]

    OPTIONS

                   --max=<N>    at most N children at a time; more connections wait
      --per-source=<N[/LEN]>    at most N from one address, or IPv6 /LEN; more are refused
           --rate=<N[/TIME]>    start at most N in any TIME (default 1s); more connections wait
              --drain=<TIME>    after SIGTERM, wait so long for children
           --from-uid=<USER>    take connections from this user alone
              --no-new-privs    children cannot gain privileges by an exec (sudo …)
           -u, --user=<USER>    run as this user, in its primary group
         -g, --group=<GROUP>    run in this group
         -G, --groups=<LIST>    supplementary groups to keep, a,b,c
           -k, --keep-groups    leave supplementary groups alone
          -x, --chroot=<DIR>    change the root folder
                  -h, --help    print this text
               -V, --version    print the version

    Each connection becomes descriptors 0 and 1 of the program, in a session of its own; 2 stays our standard error.
    Its environment names the connection: PROTO, TCPLOCALIP, TCPLOCALPORT, TCPREMOTEIP, TCPREMOTEPORT, REMOTE_ADDR,
    REMOTE_PORT, SERVER_ADDR, SERVER_PORT. TIME is a number of seconds, or such as 500ms, 10s, 2m.
    A socket that systemd passes (ListenDatagram=SOCKET) is taken instead of bound; what is in it outlives us.
    SIGTERM serves what has come, removes SOCKET and leaves children alone; a second one stops at once.

    EXIT CODES

      0  it was told to stop           3  the system refused: SOCKET in use, no such program …
      2  the command line is wrong     11 the server it registered with has gone
    "
  `);
});

test("socketbox-inetd-p --help differs from that in its first lines alone", async () => {
  const [own = "", ...rest] = (await help("socketbox-inetd-p")).split(/^(?=OPTIONS$)/m);
  const [, ...others] = (await help("socketbox-inetd")).split(/^(?=OPTIONS$)/m);
  expect(own).toMatchInlineSnapshot(`
    "
    Starts PROGRAM for each connection of slot NR of the server at SOCKET. (socketbox-inetd-p)

    USAGE socketbox-inetd-p [OPTIONS] SOCKET NR PROGRAM [ARG…]

    "
  `);
  expect(rest).toEqual(others);
});

test("send-receive-fd --help", async () => {
  expect(await help("send-receive-fd")).toMatchInlineSnapshot(`
    "
    Sends or receives one socket over an inherited Unix socket. (send-receive-fd)

    USAGE send-receive-fd [OPTIONS]

    OPTIONS

        -r, --receive=<FD>    receive a socket on FD, then run PROG [ARG…]
      -s, --send=<SEND_FD>    send SEND_FD over the descriptor that follows
                -h, --help    print this text
             -V, --version    print the version

    send-receive-fd -r FD PROG [ARG…]    PROG finds the number of what was received in SKBOX_RECEIVED_FD
    send-receive-fd -s SEND_FD FD
    "
  `);
});

test("socket-query --help", async () => {
  expect(await help("socket-query")).toMatchInlineSnapshot(`
    "
    Prints the addresses of an inherited socket. (socket-query)

    USAGE socket-query [OPTIONS]

    OPTIONS

      -f, --fd=<FD>    the socket (Default: 0)
        -l, --local    the local side alone
       -r, --remote    the remote side alone
      -a, --address    with -l or -r: the address alone
         -p, --port    with -l or -r: the port alone
          -R, --raw    upper-case hex without brackets
         -h, --help    print this text
      -V, --version    print the version

    Without -l and -r both sides are printed on one line, the local one first.
    "
  `);
});

test.each(["socketbox", "socketbox-inetd", "socketbox-relay"])(
  "docs/COMMANDS.md names every option of %s",
  async (name) => {
    const document = readFileSync(join(ROOT, "docs/COMMANDS.md"), "utf8");
    const section = document.split(/^## /m).find((one) => one.startsWith(`${name}\n`))!;
    const options = [...(await help(name)).matchAll(/^ *(?:(-\w), )?(--[a-z0-9-]+)/gm)];
    const isNamed = (option: string | undefined) => option !== undefined && section.includes(`\`${option}`);
    const missing = options.filter(([, letter, long]) => !isNamed(letter) && !isNamed(long));
    expect(missing.map(([, , long]) => long)).toEqual(["--help", "--version"]);
  },
);
