/** A root folder to chroot(2) into. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { must } from "./running.ts";

/** Makes `jail` with the program in it, and the libraries that it needs. */
export async function makeJail(jail: string, program: string): Promise<void> {
  const libraries = [...(await must(["ldd", program])).matchAll(/(\/\S+)/g)].map(([path]) => path);
  for (const path of [program, ...libraries]) {
    mkdirSync(jail + dirname(path), { recursive: true });
    await must(["cp", "-L", path, jail + path]);
  }
}
