/** `socketbox check`: everything that is wrong with a configuration, and the verdict. */
import { decodeUtf8 } from "../config/encoding.ts";
import { formatDiagnostic } from "../model/diagnostic.ts";
import { configure, type Outcome, readBytes } from "./configure.ts";
import { EXIT, type Host } from "./host.ts";

export function check(host: Host, file: string): number {
  const text = decodeUtf8(file, readBytes(file));
  const outcome: Outcome = typeof text === "string" ? configure(file, text) : { diagnostics: [text] };
  const { diagnostics, configured } = outcome;
  for (const diagnostic of diagnostics) host.out(`${formatDiagnostic(diagnostic)}\n`);
  const errors = diagnostics.filter(({ severity }) => severity === "error").length;
  if (!configured) {
    host.out(`${file}: refused, ${counted(errors, "error")}\n`);
    return EXIT.refused;
  }
  const { draft, listeners } = configured.configuration;
  const routes = draft.tables.reduce((sum, table) => sum + table.routes.length, 0);
  const parts = [
    counted(listeners.length, "listener"),
    counted(routes, "route"),
    `in ${counted(draft.tables.length, "table")}`,
    `to ${counted(configured.table.targets.length, "target")}`,
  ];
  host.out(`${file}: good: ${parts.join(" ")}; ${counted(diagnostics.length, "warning")}\n`);
  return EXIT.ok;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
