/**
 * An endpoint and the node that has it, found by name and changed there.
 *
 * @module
 */
import { Endpoint } from "@weir/proto/endpoint";
import { answersOf, clientOf, onEveryNode } from "./clients.ts";
import type { CommandContext } from "./context.ts";
import { didYouMean } from "./suggestion.ts";

/** Where it is. */
export interface PlacedEndpoint {
  readonly node: string;
  readonly endpoint: Endpoint;
}

/** The endpoint of this name, on whatever node it is. "POD" means "default/POD" where there is no other. */
export async function findEndpoint(context: CommandContext, name: string): Promise<PlacedEndpoint> {
  const answers = answersOf(
    context,
    await onEveryNode(context, "endpoint-manager", async (client) => {
      const endpoints = client.collection("endpoints", Endpoint);
      return await endpoints.get(name) ??
        (name.includes("/") ? undefined : await endpoints.get(`default/${name}`));
    }),
  );
  for (const { target, value } of answers) {
    if (value !== undefined) return { node: target.node, endpoint: value };
  }
  const known = answersOf(
    context,
    await onEveryNode(
      context,
      "endpoint-manager",
      (client) => client.collection("endpoints", Endpoint).list(),
    ),
  ).flatMap(({ value }) => value.items.map((endpoint) => endpoint.name));
  const short = name.includes("/")
    ? known
    : [...known, ...known.map((one) => one.slice(one.indexOf("/") + 1))];
  throw new Error(
    `Cannot find endpoint ${name}: no node has it${didYouMean(name, short)}; see weir endpoint list`,
  );
}

/** Gives an endpoint another spec on its node. */
export async function putEndpoint(
  context: CommandContext,
  { node, endpoint: { name } }: PlacedEndpoint,
  spec: Endpoint,
): Promise<void> {
  const client = clientOf(
    context,
    "endpoint-manager",
    context.nodes().find((target) => target.node === node),
  );
  try {
    await client.collection("endpoints", Endpoint).put(name, spec);
  } finally {
    client.close();
  }
}
