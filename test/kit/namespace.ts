/** Network namespaces of a test's own; each goes when nothing is in it any more. */
import { must, type Options, Running, run } from "./running.ts";

export class Namespace implements AsyncDisposable {
  readonly #keeper: Running;

  private constructor(keeper: Running) {
    this.#keeper = keeper;
  }

  /** A namespace with a loopback interface that is down: without network at all. */
  static async isolated(): Promise<Namespace> {
    const keeper = new Running(["unshare", "-n", "sh", "-c", "echo here; exec sleep infinity"]);
    await keeper.until(/here/);
    return new Namespace(keeper);
  }

  /** A namespace whose loopback interface is up, after these `ip` commands. */
  static async local(...commands: readonly string[]): Promise<Namespace> {
    const namespace = await Namespace.isolated();
    for (const command of ["link set lo up", ...commands]) await namespace.ip(command);
    return namespace;
  }

  /** As setns(2) wants it. */
  get path(): string {
    return `/proc/${this.#keeper.pid}/ns/net`;
  }

  /** The command, to be run in here. */
  command(...words: readonly string[]): string[] {
    return ["nsenter", `--net=${this.path}`, "--", ...words];
  }

  start(words: readonly string[], options?: Options): Running {
    return new Running(this.command(...words), options);
  }

  run(words: readonly string[], options?: Options): Promise<{ code: number; out: string }> {
    return run(this.command(...words), options);
  }

  async ip(command: string): Promise<void> {
    await must(this.command("ip", ...command.split(" ")));
  }

  /** A cable to another namespace: the interface is called `to-NAME` on each side, after the other side. */
  async connect(other: Namespace, here: string, there: string): Promise<void> {
    await this.ip(`link add to-${there} type veth peer name to-${here} netns ${other.#keeper.pid}`);
    await this.ip(`link set to-${there} up`);
    await other.ip(`link set to-${here} up`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#keeper[Symbol.asyncDispose]();
  }
}
