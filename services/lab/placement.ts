/**
 * Which node a pod goes to.
 *
 * @module
 */

/** A pod's node, or what is wrong with the node it names. */
export function placePod(
  nodeName: string | undefined,
  nodes: readonly string[],
  podsPerNode: ReadonlyMap<string, number>,
): { node: string } | { error: string } {
  if (nodeName !== undefined) {
    return nodes.includes(nodeName)
      ? { node: nodeName }
      : { error: `nodeName is "${nodeName}": the lab has ${nodes.join(", ")}` };
  }
  // The node with the fewest pods; of equals the first, so that one manifest always gives one placement.
  const count = (node: string) => podsPerNode.get(node) ?? 0;
  return { node: nodes.reduce((best, node) => count(node) < count(best) ? node : best) };
}
