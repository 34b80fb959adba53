import { equal, throws } from "node:assert/strict";
import { namespacePrefix, topology, TopologyError } from "./topology.ts";

Deno.test("topology() gives every node its own instance, namespace and addresses", () => {
  const { nodes, controlPlane } = topology("demo", 3);
  equal(nodes.map((node) => node.name).join(), "node-1,node-2,node-3");
  equal(nodes[2].instance, "demo-node-3");
  equal(new Set(nodes.flatMap((node) => [node.netns, node.ipv4, node.ipv6])).size, 9);
  equal(controlPlane, "demo-node-1");
});

Deno.test("topology() refuses names that could not be namespaces, and sizes out of range", () => {
  for (const name of ["", "Demo", "a_b", "-a", "a--b", "a/b", "averyveryverylongname"]) {
    throws(() => topology(name, 2), TopologyError, name);
  }
  for (const count of [0, -1, 1.5, 65, NaN]) throws(() => topology("demo", count), TopologyError);
});

Deno.test("namespacePrefix() of one lab never matches the namespaces of another", () => {
  equal(topology("a-b", 1).nodes[0].netns.startsWith(namespacePrefix("a")), false);
});
