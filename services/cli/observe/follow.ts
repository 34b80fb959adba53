/**
 * Streams of every node until the person stops them.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { clientOf } from "../clients.ts";
import type { CommandContext, NodeTarget } from "../context.ts";
import { isWrongUsage } from "../errors.ts";
import { transportText } from "../transport_text.ts";

/** Follows a stream of every node; a node that goes away is said, the others go on. 1 when all went away. */
export async function followNodes(
  context: CommandContext,
  read: (client: WeirClient, signal: AbortSignal, target: NodeTarget) => Promise<void>,
  { silent = false }: { silent?: boolean } = {},
): Promise<number> {
  const signal = context.io.interrupted;
  let failed = 0;
  const targets = context.nodes();
  await Promise.all(targets.map(async (target) => {
    const client = clientOf(context, "flow-exporter", target);
    try {
      await read(client, signal, target);
    } catch (error) {
      if (signal.aborted) return;
      if (isWrongUsage(error)) throw error;
      failed++;
      if (silent && targets.length > 1) return;
      context.io.err(`weir: ${target.node}: ${transportText(error) ?? (error as Error).message}\n`);
    } finally {
      client.close();
    }
  }));
  return failed === targets.length ? 1 : 0;
}
