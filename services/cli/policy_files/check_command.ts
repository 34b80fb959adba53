/**
 * `weir policy check -f DIR`: what is wrong or odd in manifests, before anybody applies them. For reviews and for CI: exit code 3 where
 * there is an error or a warning.
 * @module
 */
import { noWords, parse, text, texts } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { checkJson, checkMarkdown, checkSarif, checkTable } from "./check_text.ts";
import { writerOf } from "./output_form.ts";
import { inventoryOf } from "./read.ts";

const HINT = "weir help policy";
/** Something is wrong. */
const EXIT_FOUND = 3;

/** Runs the command. */
export async function checkCommand(args: string[], { io }: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    cluster: { type: "string" },
    namespace: { type: "string", short: "n" },
    output: { type: "string", short: "o" },
  }, HINT);
  noWords(parsed, HINT);
  const paths = texts(parsed, "file");
  if (paths.length === 0) throw new UsageError("Say which manifests: -f FILE, DIR or -", HINT);
  const writers = { table: checkTable, json: checkJson, markdown: checkMarkdown, sarif: checkSarif };
  const write = writerOf(parsed, writers, HINT);
  const options = { cluster: text(parsed, "cluster"), namespace: text(parsed, "namespace") };
  const inventory = await inventoryOf(paths, io, options);
  const { checkInventory } = await import("@weir/policy-engine/check");
  const result = checkInventory(inventory, options);
  if (result.workloads === 0 && result.policies > 0) {
    io.err(
      "weir: warning: there is no pod in the files: whom selectors mean, and ports, are not looked at\n",
    );
  }
  if (result.isCut) io.err("weir: warning: there are too many rules to hold each against all others\n");
  io.out(write(result));
  return result.findings.some(({ severity }) => severity !== "note") ? EXIT_FOUND : 0;
}
