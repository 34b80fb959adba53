/**
 * `weir policy check -f DIR`: what is wrong or odd in manifests, before anybody applies them. For reviews and for CI: exit code 3 where
 * there is an error or a warning.
 * @module
 */
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { flag, noWords, parse, text, texts } from "../args.ts";
import { clientOf } from "../clients.ts";
import { type CommandContext, UsageError } from "../context.ts";
import type { ClusterObjects } from "@weir/policy-engine/check";
import { checkJson, checkMarkdown, checkSarif, checkTable } from "./check_text.ts";
import { writerOf } from "./output_form.ts";
import { inventoryOf } from "./read.ts";

const HINT = "weir help policy";
/** Something is wrong. */
const EXIT_FOUND = 3;

/** Runs the command. */
export async function checkCommand(args: string[], context: CommandContext): Promise<number> {
  const { io } = context;
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    live: { type: "boolean" },
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
  const files = await inventoryOf(paths, io, options);
  const { checkInventory, withCluster } = await import("@weir/policy-engine/check");
  const inventory = flag(parsed, "live")
    ? withCluster(files, await clusterObjects(context), options.cluster ?? "default")
    : files;
  const result = checkInventory(inventory, options);
  if (result.workloads === 0 && result.policies > 0) {
    io.err(
      "weir: warning: there is no pod to be meant: whom selectors mean, and ports, are not looked at\n",
    );
  }
  if (result.isCut) io.err("weir: warning: there are too many rules to hold each against all others\n");
  io.out(write(result));
  return result.findings.some(({ severity }) => severity !== "note") ? EXIT_FOUND : 0;
}

/** Who and what is there now, by the identity allocator. */
async function clusterObjects(context: CommandContext): Promise<ClusterObjects> {
  const allocator = clientOf(context, "identity-allocator");
  try {
    const [identities, addresses, nodes] = await Promise.all([
      allocator.collection("identities", Identity).list(),
      allocator.collection("ipcache", IpcacheEntry).list(),
      allocator.collection("nodes", Node).list(),
    ]);
    return { identities: identities.items, addresses: addresses.items, nodes: nodes.items };
  } finally {
    allocator.close();
  }
}
