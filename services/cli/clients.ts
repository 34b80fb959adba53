/**
 * Clients of the services that a command talks to.
 *
 * @module
 */
import { WeirClient } from "@weir/client";
import type { StatusNode, StatusTargets } from "@weir/client/status";
import { ProblemError } from "@weir/common/problem";
import { readInputTextSync } from "@weir/common/input-file";
import type { CommandContext, NodeTarget, ServiceName } from "./context.ts";
import { transportText } from "./transport_text.ts";

const CA_BYTES_MAX = 1 << 20;

/**
 * A client of a service; close it when done. For an http(s) address `WEIR_TOKEN` is the bearer token and `WEIR_CA` the file
 * of the cluster's authority (/var/lib/weir/host/ca.crt of any member).
 */
export function clientOf(
  context: CommandContext,
  service: ServiceName,
  target?: NodeTarget,
  address: string = context.address(service, target),
): WeirClient {
  const handler = context.handler(service, target);
  if (handler !== undefined) return new WeirClient({ handler }, { deadlineMs: context.answerMsMax });
  const token = Deno.env.get("WEIR_TOKEN"), caFile = Deno.env.get("WEIR_CA");
  if ((token ?? caFile) === undefined || !/^https?:/.test(address) || address.includes("#")) {
    return new WeirClient(address);
  }
  const ca = caFile ? [readInputTextSync(caFile, { bytesMax: CA_BYTES_MAX })] : undefined;
  return new WeirClient({ url: address, token, ca });
}

/** Whom `weir status` and the web page ask how everything is. */
export function statusTargets(context: CommandContext): StatusTargets {
  const nodes = context.nodes();
  const isOwn = context.flags.server === undefined;
  const targetOf = (node: StatusNode | undefined) => nodes.find((target) => target.node === node?.node);
  return {
    nodes: nodes.map(({ node, directory }) => isOwn ? { node, directory } : { node }),
    answerMsMax: context.statusMsMax,
    hasAuthority: isOwn && context.address("certificate-authority").startsWith("https:"),
    client: (service, node) => clientOf(context, service as ServiceName, targetOf(node)),
    clientAt: (socket, node) =>
      clientOf(context, socket as ServiceName, targetOf(node), `unix:${node.directory}/${socket}.sock`),
  };
}

/** What a node answered, or why it did not. */
export type NodeAnswer<T> =
  | { readonly target: NodeTarget; readonly value: T }
  | { readonly target: NodeTarget; readonly error: Error };

/** Asks one service of every node that the command means, all at once. */
export async function onEveryNode<T>(
  context: CommandContext,
  service: ServiceName,
  ask: (client: WeirClient, target: NodeTarget) => Promise<T>,
): Promise<NodeAnswer<T>[]> {
  // An address of one's own is one service, whatever nodes there are.
  const targets = context.flags.server === undefined ? context.nodes() : context.nodes().slice(0, 1);
  return await Promise.all(targets.map(async (target) => {
    const client = clientOf(context, service, target);
    try {
      return { target, value: await ask(client, target) };
    } catch (error) {
      return { target, error: error as Error };
    } finally {
      client.close();
    }
  }));
}

/** The answers of the nodes that gave one; the errors of the others go to stderr, unless `silent`. Throws when no node answered. */
export function answersOf<T>(
  context: CommandContext,
  answers: NodeAnswer<T>[],
  { silent = false }: { silent?: boolean } = {},
): { target: NodeTarget; value: T }[] {
  const good = answers.filter((answer) => "value" in answer);
  const bad = answers.filter((answer) => "error" in answer);
  if (good.length === 0 && bad.length > 0) throw bad[0].error;
  for (const { target, error } of silent ? [] : bad) {
    context.io.err(`weir: ${target.node}: ${transportText(error) ?? error.message}\n`);
  }
  return good;
}

/** Whether an error says that nothing listens there. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof ProblemError && error.code === "UNREACHABLE";
}
