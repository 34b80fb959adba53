/**
 * `weir policy diff OLD NEW`: which connections open and which close, from manifests alone. For reviews and for CI: exit code 3 when
 * something opens.
 * @module
 */
import { parse, text, texts } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { comparisonJson, comparisonMarkdown, comparisonTable } from "./diff_text.ts";
import { comparisonSarif } from "./diff_sarif.ts";
import { writerOf } from "./output_form.ts";
import { readFiles } from "./read.ts";

const HINT = "weir help policy";
const WRITERS = {
  table: comparisonTable,
  json: comparisonJson,
  markdown: comparisonMarkdown,
  sarif: comparisonSarif,
};
/** Something opens. */
const EXIT_OPENS = 3;

/** Runs the command. */
export async function diffCommand(args: string[], { io }: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    cluster: { type: "string" },
    namespace: { type: "string", short: "n" },
    output: { type: "string", short: "o" },
  }, HINT);
  const [old, fresh, ...more] = parsed.positionals;
  if (old === undefined || fresh === undefined || more.length > 0) {
    throw new UsageError("Say what to compare: weir policy diff OLD NEW, files or directories", HINT);
  }
  const write = writerOf(parsed, WRITERS, HINT);
  const options = { cluster: text(parsed, "cluster"), namespace: text(parsed, "namespace") };
  const shared = texts(parsed, "file");
  const before = await readFiles([...shared, old], io, options);
  const now = await readFiles([...shared, fresh], io, options);
  const { compare } = await import("@weir/policy-engine/offline");
  const comparison = compare(before, now, options);
  io.out(write(comparison));
  if (comparison.isCut) {
    io.err(
      "weir: warning: there are more combinations of labels than are tried, so that a difference may be missing\n",
    );
  }
  return comparison.differences.some(({ effect }) => effect === "opens") ? EXIT_OPENS : 0;
}
