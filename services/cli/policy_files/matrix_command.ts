/**
 * `weir policy matrix`: who reaches whom, from manifests alone.
 * @module
 */
import type { PortRange } from "@weir/policy-engine/offline";
import { noWords, parse, text, texts } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { matrixJson, matrixList, matrixTable } from "./matrix_text.ts";
import { matrixSvg } from "./matrix_svg.ts";
import { writerOf } from "./output_form.ts";
import { readFiles } from "./read.ts";

const HINT = "weir help policy";
const WRITERS = { table: matrixTable, list: matrixList, json: matrixJson, svg: matrixSvg };

/** Runs the command. */
export async function matrixCommand(args: string[], { io }: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    ports: { type: "string" },
    cluster: { type: "string" },
    namespace: { type: "string", short: "n" },
    output: { type: "string", short: "o" },
  }, HINT);
  noWords(parsed, HINT);
  const paths = texts(parsed, "file");
  if (paths.length === 0) throw new UsageError("Say which manifests: -f FILE, DIR or -", HINT);
  const write = writerOf(parsed, WRITERS, HINT);
  const inventory = await readFiles(paths, io, {
    cluster: text(parsed, "cluster"),
    namespace: text(parsed, "namespace"),
  });
  const { MatrixError, matrixOf, parseRange } = await import("@weir/policy-engine/offline");
  const asked = (text(parsed, "ports") ?? "").split(",").filter((word) => word !== "").map((word) =>
    rangeOf(word.trim(), parseRange)
  );
  if (inventory.workloads.length === 0) {
    throw new UsageError(
      `There is no workload in ${paths.join(", ")}: want Pods, or what has a template of them`,
    );
  }
  try {
    const matrix = matrixOf(inventory, asked);
    io.out(write(matrix));
  } catch (error) {
    if (error instanceof MatrixError) throw new UsageError(`Cannot make a matrix: ${error.message}`);
    throw error;
  }
  return 0;
}

function rangeOf(word: string, parseRange: (text: string) => PortRange | undefined): PortRange {
  const range = parseRange(word);
  if (range === undefined) {
    throw new UsageError(`Cannot read port "${word}": expected 80/TCP or 8000-8999/UDP`, HINT);
  }
  return range;
}
