/** A node with a proxy, and who speaks by way of it. @module */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster, type Place } from "./cluster.ts";
import { TCP } from "./packet.ts";
import { Proxy } from "./proxy.ts";

/** The port that policies are about, and their slots. */
export const PORT = 8080, EGRESS = 1, INGRESS = 2, PLAIN = 3, DENIED = 4;
export const BOTH_FAMILIES = abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6;

/** A node with pod1 and pod3, a proxy on it, and policies in the slots above. */
export async function withProxy(
  mode: number,
  use: (cluster: Cluster, proxy: Proxy) => Promise<void>,
  sizes: Record<string, number> = {},
): Promise<void> {
  const cluster = await Cluster.open(mode, sizes);
  let proxy: Proxy | undefined;
  try {
    await cluster.addPod();
    const [node] = cluster.nodes, port = { protocol: TCP, port: PORT };
    const any = (direction: "egress" | "ingress", cookie: number, redirect: boolean) => ({
      rules: [{ direction, ...port, redirect, cookie }],
      enforceEgress: direction === "egress",
      enforceIngress: direction === "ingress",
    });
    node.setPolicy(EGRESS, any("egress", 7, true));
    node.setPolicy(INGRESS, any("ingress", 8, true));
    node.setPolicy(PLAIN, any("egress", 9, false));
    node.setPolicy(DENIED, { enforceEgress: true, rules: [] });
    proxy = await Proxy.open(cluster, 1);
    await use(cluster, proxy);
  } finally {
    await proxy?.close();
    await cluster.close();
  }
}

let source = 40000;
/** `server` answers `client` at `to` by way of the proxy, and sees `peer` with the client's own port unless that is the node's. */
export async function passes(
  cluster: Cluster,
  proxy: Proxy,
  ask: { from: Place; to: string; port?: number; peer: string; onward: string; anyPort?: boolean },
): Promise<void> {
  source++;
  const answer = await cluster.ask(ask.from, "tcp", ask.to, ask.port ?? PORT, { bytes: 100_000, source });
  const expected = [true, ask.peer, ask.anyPort ? answer.port : source, 100_000];
  assert.deepEqual(
    [answer.ok, answer.peer, answer.port, answer.bytes],
    expected,
    `${ask.to}: ${answer.text}`,
  );
  const [handle, , , onward, port] = (await proxy.line()).replaceAll("::ffff:", "").split(" ");
  assert.match(handle, /^(240\.|fd57:4c37::)/);
  assert.deepEqual(
    [onward, port],
    [ask.onward, `${PORT}`],
    "getpeername() of the proxy's socket is the server",
  );
}
