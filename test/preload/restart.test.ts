/** Daemons that replace themselves while connections come in: none is lost, the path stays the same. */
import { expect } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { program, testWith } from "../kit/require.ts";
import { ask, compile, mapOf, Running, scratchFolder, startSender, under, until } from "./harness.ts";

const nginxTest = testWith(program("gcc"), program("nginx"));
const folder = scratchFolder();
const request = "GET / HTTP/1.0\r\n\r\n";

/** A running master whose workers answer with their process id. */
async function startNginx(name: string, listen: string) {
  const path = join(folder, `${name}.sock`);
  const pidFile = join(folder, `${name}.pid`);
  const config = join(folder, `${name}.conf`);
  writeFileSync(
    config,
    `pid ${pidFile}; error_log ${folder}/${name}.log; worker_processes 2;
     events { worker_connections 512; }
     http { access_log off; server { ${listen} location / { return 200 "by $pid.\\n"; } } }`,
  );
  const sender = await startSender(compile("sender", folder), path);
  const starter = new Running(
    ["/usr/sbin/nginx", "-p", folder, "-c", config],
    under({ SOCKETBOX_MAP: mapOf({ 80: path }) }),
  );
  await starter.child.exited;
  await until("nginx has written its pid", () => existsSync(pidFile) && readFileSync(pidFile, "utf8") !== "");
  // While nginx replaces itself the file is renamed away, made, and written: 0 stands for nobody.
  const master = () => (existsSync(pidFile) ? Number(readFileSync(pidFile, "utf8")) : 0);
  const oldest = master();
  return {
    path,
    pidFile,
    master,
    question: () => ask(sender.port, "127.0.0.1", request),
    async [Symbol.asyncDispose]() {
      for (const pid of new Set([oldest, master()])) {
        if (pid === 0) continue;
        try {
          process.kill(pid, "SIGTERM");
        } catch {
          // It has ended.
        }
      }
      await sender[Symbol.asyncDispose]();
    },
  };
}

/** Asks all the time while work is done; the answers that were none. */
async function failuresDuring(question: () => Promise<string>, work: () => Promise<void>): Promise<string[]> {
  const failures: string[] = [];
  let going = true;
  const asking = Array.from({ length: 8 }, async () => {
    while (going) {
      const answer = await question().catch(String);
      if (!/by \d+\.\n/.test(answer)) failures.push(answer);
    }
  });
  await work();
  going = false;
  await Promise.all(asking);
  return failures;
}

const workerOf = async (question: () => Promise<string>) => /by (\d+)/.exec(await question())?.[1];

for (const listen of ["listen 80;", "listen 80 reuseport;", "listen 80; listen [::]:80 ipv6only=on;"]) {
  nginxTest(`nginx with ${listen} loses nothing when it reloads (HUP)`, async () => {
    await using nginx = await startNginx(`hup-${Bun.nanoseconds()}`, listen);
    const inode = statSync(nginx.path).ino;
    const failures = await failuresDuring(nginx.question, async () => {
      for (let i = 0; i < 3; i++) {
        const before = await workerOf(nginx.question);
        process.kill(nginx.master(), "SIGHUP");
        await until("new workers answer", async () => (await workerOf(nginx.question)) !== before);
      }
    });
    expect(failures).toEqual([]);
    expect(statSync(nginx.path).ino).toBe(inode);
  });
}

nginxTest(
  "nginx loses nothing when it replaces its own program (USR2, QUIT) with a cleaned environment",
  async () => {
    await using nginx = await startNginx("usr2", "listen 80;");
    const inode = statSync(nginx.path).ino;
    const old = nginx.master();
    await nginx.question(); // from then on it takes signals
    const failures = await failuresDuring(nginx.question, async () => {
      process.kill(old, "SIGUSR2");
      await until(
        "the new master runs",
        () => existsSync(`${nginx.pidFile}.oldbin`) && ![0, old].includes(nginx.master()),
      );
      process.kill(old, "SIGQUIT");
      await until("the old master has ended", () => !existsSync(`/proc/${old}`));
    });
    expect(failures).toEqual([]);
    expect(await nginx.question()).toMatch(/by \d+/);
    expect(statSync(nginx.path).ino).toBe(inode);
  },
);
