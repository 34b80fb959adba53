/**
 * The kernel refuses a write to a map, each map in turn, while it is asked for something new: what runs goes on, the answer or the
 * status names the map, it is tried again, and in the end all is as if nothing had been. See `datapath/loader/fault.ts`.
 * @module
 */
import assert from "node:assert/strict";
import {
  isSilent,
  nodeTest,
  pings,
  PingStream,
  rowsOf,
  type TestNode,
} from "../../datapath/service/testing.ts";
import { until } from "@weir/common/testing/until";
import {} from "./faulty_lab.ts";

const SERVICE = "10.96.0.10";
const service = {
  services: [{
    id: 7,
    name: "default/web:http",
    protocol: "TCP",
    algorithm: "RANDOM",
    sourceRanges: ["10.44.0.0/16"],
    frontends: [{ address: SERVICE, port: 80, external: true }],
  }],
  backends: [{
    service: 7,
    address: "10.44.0.11",
    port: 8080,
    state: "ACTIVE",
    weight: 1,
    internal: true,
    external: true,
  }],
};
const policy = (revision: number, ...identities: number[]) => ({
  policyRevision: revision,
  enforceIngress: true,
  entries: identities.map((identity) => ({
    direction: "INGRESS",
    identity,
    precedence: 1,
    cookie: 1,
  })),
});

/** Something new that is asked for, the maps that it writes, and how to see that it is there. */
interface Change {
  what: string;
  maps: string[];
  ask(node: TestNode, pods: Pods): Promise<unknown>;
  there(node: TestNode, pods: Pods): Promise<boolean>;
  undo(node: TestNode): Promise<unknown>;
}
interface Pods {
  a: string;
  b: string;
  c: string;
}

const CHANGES: Change[] = [
  {
    what: "an endpoint",
    maps: ["weir_endpoints", "weir_addresses", "weir_ifindex"],
    ask: (node, { c }) => node.request("PUT", "/v1/endpoints/c", node.endpoint(12, c)),
    there: async (_, { c }) => !await isSilent(c, "10.44.0.10"),
    undo: (node) => node.request("DELETE", "/v1/endpoints/c"),
  },
  {
    what: "a policy",
    maps: ["weir_policy", "weir_policies", "weir_policy_slots", "weir_endpoints"],
    ask: (node) => node.request("PUT", "/v1/policies/p", policy(2, 1010, 1012)),
    there: async (node) => (await rowsOf(node, "policy")).some(({ identity }) => identity === "1012"),
    undo: (node) => node.request("PUT", "/v1/policies/p", policy(3, 1010)),
  },
  {
    what: "a service",
    maps: ["weir_frontends", "weir_backends", "weir_selections", "weir_source_ranges"],
    ask: (node) => node.request("POST", "/v1/services:update", service),
    there: async (node) => (await rowsOf(node, "lb")).some(({ backend }) => backend === "10.44.0.11:8080"),
    undo: (node) => node.request("POST", "/v1/services:update", { deletedServices: [7] }),
  },
  {
    what: "an address",
    maps: ["weir_ipcache_exact"],
    ask: (node) =>
      node.request("POST", "/v1/ipcache", { upserts: [{ prefix: "10.9.0.1/32", identity: 5000 }] }),
    there: async (node) => (await rowsOf(node, "ipcache")).some(({ prefix }) => prefix === "10.9.0.1/32"),
    undo: (node) => node.request("POST", "/v1/ipcache", { deletes: ["10.9.0.1/32"] }),
  },
  {
    what: "a prefix",
    maps: ["weir_ipcache"],
    ask: (node) =>
      node.request("POST", "/v1/ipcache", { upserts: [{ prefix: "10.9.0.0/24", identity: 5000 }] }),
    there: async (node) => (await rowsOf(node, "ipcache")).some(({ prefix }) => prefix === "10.9.0.0/24"),
    undo: (node) => node.request("POST", "/v1/ipcache", { deletes: ["10.9.0.0/24"] }),
  },
];

/** What the kernel holds, without counters and ids that grow. */
async function held(node: TestNode): Promise<string> {
  const parts: Record<string, unknown> = {};
  for (const map of ["endpoint", "address", "ipcache", "lb", "source_ranges"]) {
    parts[map] = (await rowsOf(node, map)).map((row) =>
      Object.fromEntries(
        Object.entries(row).filter(([name]) => !/Packets|Bytes|revision|slot|ifindex/.test(name)),
      )
    );
  }
  parts.policy = (await rowsOf(node, "policy")).map((
    { policy, direction, identity },
  ) => [policy, direction, identity]);
  return JSON.stringify(parts);
}

for (const change of CHANGES) {
  nodeTest(
    `a map refuses while ${change.what} comes: what runs goes on, it is named, and comes in the end`,
    async (node) => {
      const file = await Deno.makeTempFile({ prefix: "wt-fault-" });
      try {
        await node.stop();
        await node.start("--fault-file", file);
        await node.configure();
        const pods: Pods = { a: await node.pod("a"), b: await node.pod("b"), c: await node.pod("c") };
        await node.request("PUT", "/v1/policies/p", policy(1, 1010));
        await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, pods.a));
        await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, pods.b, { policy: "p" }));
        await until("what is allowed runs", () => pings(pods.a, "10.44.0.11"));
        const before = await held(node);
        await using stream = new PingStream(pods.a, "10.44.0.11", 0.1);
        for (const map of change.maps) {
          for (const errno of ["ENOMEM", "E2BIG"]) {
            await Deno.writeTextFile(file, `map-write ${map} ${errno}\n`);
            const ask = () =>
              change.ask(node, pods).then((answer) => JSON.stringify(answer), (error) => String(error));
            const answer = await ask();
            const { errors = [] } = await node.request("GET", "/v1/status");
            const said = `${answer} ${JSON.stringify(errors)}`;
            assert.match(said, new RegExp(`${map}\\b`), `${map} ${errno} is named: ${said}`);
            assert.match(
              said,
              errno === "ENOMEM" ? /ENOMEM/ : /it holds (\d+) of \1 entries/,
              `${map} ${errno}: why`,
            );
            assert.ok(await pings(pods.a, "10.44.0.11"), `${map} ${errno}: what is allowed goes on`);
            assert.ok(await isSilent(pods.b, "10.44.0.12"), `${map} ${errno}: nobody is there yet`);
            // Once more, then it takes it.
            await Deno.writeTextFile(file, `map-write ${map} ${errno} 1\n`);
            let last = answer;
            await until(`${map} ${errno}: ${change.what} comes`, async () => {
              if (/rror/.test(last)) last = await ask(); // as its caller does, with backoff
              return !/rror/.test(last) && await change.there(node, pods);
            });
            assert.equal(
              (await node.request("GET", "/v1/status")).errors,
              undefined,
              `${map} ${errno}: no error is left`,
            );
            await change.undo(node);
            assert.equal(await held(node), before, `${map} ${errno}: nothing is left of it`);
          }
        }
        await Deno.writeTextFile(file, "");
        const { errors } = await node.request("GET", "/v1/status");
        assert.equal(errors, undefined);
        assert.deepEqual(await stream.missing(), [], "no packet of what ran was lost");
      } finally {
        await Deno.remove(file);
      }
    },
  );
}
