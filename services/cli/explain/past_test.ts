import assert from "node:assert/strict";
import type { WeirClient } from "@weir/client";
import { Flow } from "@weir/proto/flow";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { Policy } from "@weir/proto/policy";
import { UsageError } from "../context.ts";
import { explainAt, flowEnd, pastEnd, type PastQuestion } from "./past.ts";

const ADDRESSES = [
  IpcacheEntry.create({
    prefix: "10.0.0.1/32",
    identity: 300,
    namespace: "shop",
    podName: "cart-1",
    endpoint: "shop/cart-1",
  }),
  IpcacheEntry.create({
    prefix: "10.0.0.2/32",
    identity: 301,
    endpoint: "web",
    namedPorts: [{ name: "http", port: 80 }],
  }),
];

Deno.test("pastEnd() finds who was there by name, address, identity, labels and reserved name, and nobody else", () => {
  const end = (name: string, namespace = "default") => pastEnd(name, namespace, ADDRESSES);
  assert.equal(end("shop/cart-1").identity, 300);
  assert.equal(end("pod/cart-1", "shop").identity, 300);
  assert.deepEqual(end("web").namedPorts?.map(({ port }) => port), [80]);
  assert.equal(end("10.0.0.1").ip, "10.0.0.1");
  assert.equal(end("identity:7").identity, 7);
  assert.deepEqual(end("app=cart, x=y").labels, ["app=cart", "x=y"]);
  assert.equal(end("world").identity, 9);
  assert.deepEqual(end("name/www.example.com"), { title: "www.example.com", dnsName: "www.example.com" });
  assert.equal(end("www.example.com").dnsName, "www.example.com");
  assert.throws(() => end("cart-1"), UsageError, "it was in another namespace");
  assert.throws(() => end("shop/cart-2"), /did you mean shop\/cart-1/);
  assert.throws(() => end("service/cart"), UsageError);
});

Deno.test("flowEnd() takes the labels that a flow's end had then; the world is an address", () => {
  const { source, destination } = Flow.create({
    source: { namespace: "shop", pod_name: "cart-1", identity: 300, labels: ["k8s:app=cart"] },
    destination: { identity: 2, labels: ["reserved:world"] },
  });
  assert.deepEqual(flowEnd(source, "10.0.0.1"), { title: "shop/cart-1", labels: ["k8s:app=cart"] });
  assert.deepEqual(flowEnd(destination, "192.0.2.1"), { title: "192.0.2.1", ip: "192.0.2.1" });
  assert.deepEqual(
    flowEnd({ ...source!, identity: 1, labels: ["reserved:host"], pod_name: "" }, "10.0.0.9"),
    {
      title: "10.0.0.9",
      identity: 1,
    },
  );
  assert.deepEqual(flowEnd(undefined, "192.0.2.7"), { title: "192.0.2.7", ip: "192.0.2.7" });
});

/** What held: one policy, by which carts reach example.com by name. */
const HELD: Record<string, Uint8Array> = {
  policy: Policy.encode({
    name: "cnp:shop/cart",
    namespace: "shop",
    manifest:
      'apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: cart, namespace: shop}\nspec: {endpointSelector: {matchLabels: {app: cart}}, egress: [{toFQDNs: [{matchPattern: "*.example.com"}]}]}\n',
  }),
  identity: Identity.encode({
    number: 300,
    labels: [
      "k8s:app=cart",
      "k8s:io.cilium.k8s.policy.cluster=default",
      "k8s:io.kubernetes.pod.namespace=shop",
    ],
  }),
  address: IpcacheEntry.encode(ADDRESSES[0]),
};

Deno.test("explainAt() takes DNS names as they were meant then, and those of a flow", async () => {
  const flow = (names: string[]) =>
    Flow.create({
      verdict: "DROPPED",
      time: { seconds: 1000 },
      IP: { source: "10.0.0.1", destination: "192.0.2.1" },
      l4: { TCP: { destination_port: 443 } },
      source: {
        namespace: "shop",
        pod_name: "cart-1",
        identity: 300,
        labels: ["k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"],
      },
      destination: { identity: 9, labels: ["reserved:world-ipv4"] },
      destination_names: names,
    });
  const ask = (question: Partial<PastQuestion>, names: string[] = []) => {
    const history = {
      call: (path: string, { query }: { query: Record<string, string[]> }) =>
        Promise.resolve(
          path === "/v1/flows"
            ? { flows: [flow(names)], next: "" }
            : { holdings: [{ object: HELD[query.kind[0]] }], next: "", atUnixS: 1000, knownSinceUnixS: 1 },
        ),
    } as unknown as WeirClient;
    const port = { protocol: 6, port: 443 }, direction = "DIRECTION_UNSPECIFIED" as const;
    return explainAt({ port, portText: "443", direction, namespace: "shop", ...question }, history);
  };
  const named = await ask({ at: "-1h", from: "cart-1", to: "name/www.example.com" });
  assert.deepEqual([named.allowed, named.title.split(" at ")[0]], [
    true,
    "shop/cart-1 -> www.example.com:443",
  ]);
  assert.match(
    named.stages.map(({ message }) => message).join("\n"),
    /Which addresses www.example.com had then nobody keeps/,
  );
  assert.equal((await ask({ at: "-1h", from: "cart-1", to: "www.example.org" })).allowed, false);
  await assert.rejects(
    ask({ at: "-1h", from: "name/www.example.com", to: "cart-1" }),
    /nothing comes from one/,
  );
  assert.equal((await ask({ flow: "1" }, ["api.example.org", "www.example.com"])).allowed, true);
  assert.equal((await ask({ flow: "1" }, ["api.example.org"])).allowed, false);
});
