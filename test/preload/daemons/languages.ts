/** Programs in the usual languages, with the server of their library, and in C and Rust with each way to wait. */
import { join } from "node:path";
import { type Daemon, FROM, HTTP, must, script, write } from "./daemon.ts";

const python = { binary: "python3", version: ["python3", "--version"] } as const;
const node = { binary: "node", version: ["node", "--version"], question: HTTP, answer: FROM } as const;

const wsgi = `def app(environ, start):
 start("200 OK", [])
 return [("from " + environ["REMOTE_ADDR"] + ".").encode()]
`;
const asgi = `async def app(scope, receive, send):
 if scope["type"] != "http": return
 await send({"type": "http.response.start", "status": 200, "headers": []})
 await send({"type": "http.response.body", "body": ("from " + scope["client"][0] + ".").encode()})
`;

/** A C program that waits in one way, answers with its client's address, and finishes on SIGTERM. */
function inC(how: string): Daemon {
  return {
    name: `C, ${how}`,
    tried: `a non-blocking listener and ${how}(2); stop (TERM) and start`,
    binary: "gcc",
    version: ["gcc", "--version"],
    prepare: (folder) => {
      const program = join(folder, "server");
      must(["gcc", "-O1", "-Wall", "-Werror", "-o", program, join(import.meta.dir, "server.c")]);
      return [program, how];
    },
    question: "hello\n",
    answer: FROM,
    restart: { kind: "stop", signal: "SIGTERM" },
  };
}

export const languages: readonly Daemon[] = [
  {
    ...python,
    name: "Python http.server",
    tried: "--bind :: 80; it prints what it listens on; stop (INT) and start",
    prepare: (folder) => [..."python3 -u -m http.server 80 --bind :: --directory".split(" "), folder],
    question: HTTP,
    answer: /200 OK/,
    log: { file: "output", pattern: /Serving HTTP on :: port 80[\s\S]*^(::ffff:)?127\.0\.0\.9 - -/m },
    restart: {
      kind: "cut",
      signal: "SIGINT",
      why: "its threads end with it",
    },
  },
  {
    ...python,
    name: "Python asyncio",
    tried: "start_server(None, 80): IPv4 and IPv6; stop (TERM, no more accept, then server.close) and start",
    prepare: script(
      "program.py",
      `import asyncio, signal
async def serve(reader, writer):
    await reader.readline()
    peer = writer.get_extra_info('peername')[0]
    writer.write(f'from {peer}.'.encode()); await writer.drain(); writer.close()
async def main():
    server = await asyncio.start_server(serve, None, 80)
    assert all(s.getsockname()[1] == 80 for s in server.sockets)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for s in server.sockets: loop.remove_reader(s) # close alone drops what it has accepted and not begun
    while len(asyncio.all_tasks()) > 1: await asyncio.sleep(0.01)
    server.close()
asyncio.run(main())`,
      "python3",
    ),
    question: "hello\n",
    answer: FROM,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "gunicorn",
    tried: "2 workers; reload (HUP)",
    binary: "gunicorn",
    version: ["gunicorn", "--version"],
    prepare: (folder) => {
      write(folder, "app.py", wsgi);
      return ["gunicorn", "--chdir", folder, "-w", "2", "-b", "[::]:80", "app:app"];
    },
    question: HTTP,
    answer: FROM,
    restart: { kind: "reload", signal: "SIGHUP" },
  },
  {
    name: "uvicorn",
    tried: "2 workers; stop (TERM) and start",
    binary: "uvicorn",
    version: ["uvicorn", "--version"],
    prepare: (folder) => {
      write(folder, "app.py", asgi);
      return ["uvicorn", "--app-dir", folder, "--workers", "2", "--host", "::", "--port", "80", "app:app"];
    },
    question: HTTP,
    answer: FROM,
    restart: {
      kind: "cut",
      signal: "SIGTERM",
      why: "it closes connections whose request it has not read",
    },
  },
  {
    ...node,
    name: "Node http",
    tried: "listen(80); stop (TERM, server.close) and start",
    prepare: script(
      "server.js",
      `const server = require("http").createServer((request, response) => {
         response.end("from " + request.socket.remoteAddress + ".");
       }).listen(80, () => { if (server.address().port !== 80) process.exit(9); });
       process.on("SIGTERM", () => server.close());`,
      "node",
    ),
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  ...["rr", "none"].map(
    (policy): Daemon => ({
      ...node,
      name: `Node cluster, ${policy === "rr" ? "round robin" : "SCHED_NONE"}`,
      tried: "2 workers; stop (TERM, cluster.disconnect) and start",
      prepare: (folder) => [
        "env",
        `NODE_CLUSTER_SCHED_POLICY=${policy}`,
        "node",
        write(
          folder,
          "cluster.js",
          `const cluster = require("cluster");
           if (cluster.isPrimary) {
             cluster.fork(); cluster.fork();
             process.on("SIGTERM", () => cluster.disconnect());
           } else require("http").createServer((request, response) => {
             response.end("from " + request.socket.remoteAddress + ".");
           }).listen(80);`,
        ),
      ],
      restart:
        policy === "rr"
          ? { kind: "cut", signal: "SIGTERM", why: "its primary closes what no worker has taken from it" }
          : { kind: "stop", signal: "SIGTERM" },
    }),
  ),
  {
    name: "Bun",
    tried: "node:http, which listens through libc; stop (TERM, server.close) and start",
    binary: join(import.meta.dir, "../../../.toolchain/bin/bun"),
    version: [join(import.meta.dir, "../../../.toolchain/bin/bun"), "--version"],
    prepare: script(
      "server.ts",
      `const server = Bun.serve({ port: 80, hostname: "::", fetch(request, server) {
         return new Response("from " + server.requestIP(request)!.address + ".");
       } });
       process.on("SIGTERM", () => void server.stop().then(() => process.exit()));`,
      join(import.meta.dir, "../../../.toolchain/bin/bun"),
    ),
    question: HTTP,
    answer: FROM,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "Ruby",
    tried: "TCPServer; stop (TERM) and start",
    binary: "ruby",
    version: ["ruby", "--version"],
    prepare: script(
      "server.rb",
      `require "socket"
s = TCPServer.new("::", 80)
raise unless s.local_address.ip_port == 80
stop = false
trap("TERM") { stop = true }
until stop
  next unless s.wait_readable(0.05)
  c = s.accept_nonblock(exception: false)
  next if c == :wait_readable
  c.gets; c.write("from #{c.peeraddr(false)[3]}."); c.close
end`,
      "ruby",
      "-rio/wait",
    ),
    question: "hello\n",
    answer: FROM,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "Java",
    tried: "ServerSocket, blocking accept; stop (TERM, ServerSocket.close) and start",
    binary: "java",
    version: ["java", "-version"],
    prepare: script(
      "Server.java",
      `import java.net.*;
public class Server { public static void main(String[] a) throws Exception {
  ServerSocket s = new ServerSocket(80, 50);
  if (s.getLocalPort() != 80) throw new Exception("port " + s.getLocalPort());
  Thread main = Thread.currentThread();
  Runtime.getRuntime().addShutdownHook(new Thread(() -> {
    try { s.close(); main.join(); } catch (Exception e) { throw new RuntimeException(e); } }));
  while (!s.isClosed()) try (Socket c = s.accept()) {
    c.getInputStream().read();
    c.getOutputStream().write(("from " + c.getInetAddress().getHostAddress() + ".").getBytes());
  } catch (SocketException e) { if (!s.isClosed()) throw e; } } }`,
      "java",
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1",
    ),
    question: "\n",
    answer: /from (127\.0\.0\.9|0:0:0:0:0:0:0:1)\./,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "Erlang",
    tried: "gen_tcp, a process for each connection; stop (TERM) and start",
    binary: "escript",
    version: ["erl", "-noshell", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."],
    prepare: script(
      "server.escript",
      `#!/usr/bin/env escript
-mode(compile).
-export([init/1, handle_event/2, handle_call/2]).
main(_) ->
    {ok, L} = gen_tcp:listen(80, [inet6, binary, {active, false}, {packet, line}, {reuseaddr, true}, {backlog, 100}]),
    {ok, 80} = inet:port(L),
    ok = gen_event:swap_handler(erl_signal_server, {erl_signal_handler, []}, {?MODULE, self()}),
    loop(L, []).
loop(L, Serving) ->
    receive stop -> gen_tcp:close(L), wait(Serving)
    after 0 ->
        case gen_tcp:accept(L, 100) of
            {ok, S} ->
                {P, M} = spawn_monitor(fun() -> receive go -> serve(S) end end),
                ok = gen_tcp:controlling_process(S, P), P ! go,
                loop(L, [M | [X || X <- Serving, not ended(X)]]);
            {error, timeout} -> loop(L, Serving)
        end
    end.
ended(M) -> receive {'DOWN', M, _, _, _} -> true after 0 -> false end.
wait(Serving) -> [receive {'DOWN', M, _, _, _} -> ok end || M <- Serving], halt(0).
init({Main, _}) -> {ok, Main}.
handle_event(sigterm, Main) -> Main ! stop, {ok, Main};
handle_event(_, Main) -> {ok, Main}.
handle_call(_, Main) -> {ok, ok, Main}.
serve(S) ->
    {ok, _} = gen_tcp:recv(S, 0),
    {ok, {A, _}} = inet:peername(S),
    gen_tcp:send(S, ["from ", inet:ntoa(A), "."]), gen_tcp:close(S).
`,
      "escript",
    ),
    question: "hello\n",
    answer: FROM,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "Rust",
    tried: "std::net, a thread for each connection; stop (TERM, shutdown of the listener) and start",
    binary: "rustc",
    version: ["rustc", "--version"],
    prepare: (folder) => {
      const source = write(
        folder,
        "server.rs",
        `use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn shutdown(fd: i32, how: i32) -> i32;
}
static LISTENER: AtomicI32 = AtomicI32::new(-1);
static STOPPED: AtomicBool = AtomicBool::new(false);
extern "C" fn stop(_: i32) {
    STOPPED.store(true, SeqCst);
    unsafe { shutdown(LISTENER.load(SeqCst), 0) };
}
fn main() {
    let listener = std::net::TcpListener::bind("[::]:80").unwrap();
    assert_eq!(listener.local_addr().unwrap().port(), 80);
    LISTENER.store(listener.as_raw_fd(), SeqCst);
    unsafe { signal(15, stop) };
    let mut serving = Vec::new();
    while !STOPPED.load(SeqCst) {
        let mut stream = match listener.accept() { Ok((stream, _)) => stream, Err(_) => continue };
        serving.push(std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            write!(stream, "from {}.", stream.peer_addr().unwrap().ip()).unwrap();
        }));
    }
    for each in serving { each.join().unwrap(); }
}
`,
      );
      must(["rustc", "-o", join(folder, "server"), source]);
      return [join(folder, "server")];
    },
    question: "hello\n",
    answer: FROM,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  ...["select", "poll", "epoll"].map(inC),
];
