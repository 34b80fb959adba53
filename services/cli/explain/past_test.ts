import assert from "node:assert/strict";
import { Flow } from "@weir/proto/flow";
import { IpcacheEntry } from "@weir/proto/identity";
import { UsageError } from "../context.ts";
import { flowEnd, pastEnd } from "./past.ts";

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
