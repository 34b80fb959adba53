import { deepEqual, equal, match } from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { ApiServer } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import type { Message } from "@weir/proto";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { Policy } from "@weir/proto/policy";
import { flowBytes } from "./testing/flows.ts";
import { testHistory } from "./testing/history.ts";

const START_MS = 1_790_000_000_000;

/** Lets these speak to db. */
const policy = (...apps: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: db, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: db } }\n  ingress:\n  - fromEndpoints:\n${
    apps.map((app) => `    - matchLabels: { app: ${app} }\n`).join("")
  }`;

function listing(lists: Record<string, { message: Message<unknown>; items: unknown[] }>): WeirClient {
  const api = new ApiServer({ name: "listing" });
  for (const [name, { message, items }] of Object.entries(lists)) {
    api.collection({ name, message, list: () => items, get: () => undefined, description: name });
  }
  return new WeirClient({ handler: (request) => api.fetch(request) });
}

/** A history in which cart and web spoke to db, while only cart may. */
async function shop() {
  const labels = (app: string) => [`k8s:app=${app}`, "k8s:io.kubernetes.pod.namespace=shop"];
  const identities = ["db", "web", "cart"].map((app) =>
    Identity.create({ number: 1000 + app.length, labels: labels(app) })
  );
  const stored = Policy.create({ name: "cnp:shop/db", manifest: policy("cart"), file: "old.yaml", line: 1 });
  const address = IpcacheEntry.create({
    prefix: "10.0.0.2/32",
    identity: 1002,
    node: "node-1",
    endpoint: "shop/db-1",
  });
  const clock = new FakeClock(START_MS);
  const one = testHistory(clock, undefined, {
    sources: {
      allocator: listing({
        identities: { message: Identity, items: identities },
        ipcache: { message: IpcacheEntry, items: [address] },
      }),
      policyEngine: listing({ policies: { message: Policy, items: [stored] } }),
    },
  });
  await one.history.load();
  one.history.intake.take([
    ...[0, 1, 2].map((n) => flowBytes({ unixMs: START_MS + n, from: "cart-1", sourcePort: 41_000 + n })),
    flowBytes({ unixMs: START_MS + 5, from: "web-1", to: "db-1" }),
  ]);
  await one.history.flush({ isLast: true });
  return one;
}

Deno.test("POST /v1/preview judges the history by the policies in force and by the new ones", async () => {
  const one = await shop();
  try {
    const answer = await one.post("/v1/preview", { texts: [{ file: "new.yaml", text: policy("web") }] });
    deepEqual(
      answer.changes.map((
        { effect, from, to, port, connections }: Record<string, unknown>,
      ) => [effect, from, to, port, Number(connections)]),
      [["closes", "shop/cart", "shop/db", 5432, 3], ["opens", "shop/web", "shop/db", 5432, 1]],
    );
    const [closes, opens] = answer.changes;
    equal(closes.byDefault, true);
    deepEqual([opens.rules[0].file, opens.rules[0].line], ["new.yaml", 8]);
    deepEqual([closes.before[0].file, closes.before[0].line], ["old.yaml", 8]);
    deepEqual(answer.policies, ["cnp:shop/db"]);
    deepEqual([answer.maps.nodes[0].node, Number(answer.maps.nodes[0].entries)], ["node-1", 1]);
    deepEqual([Number(answer.record.connections), answer.record.complete], [4, true]);
  } finally {
    await one.close();
  }
});

Deno.test("POST /v1/preview says what it cannot judge", async () => {
  const one = await shop();
  try {
    const text = policy("web");
    const broken = await one.post("/v1/preview", {
      texts: [{ file: "a.yaml", text: text.replace("ingress", "ingres") }],
    });
    equal(broken.code, "POLICY_INVALID");
    match(broken.detail, /a\.yaml:6:.*ingres/);
    equal((await one.post("/v1/preview", { texts: [] })).code, "POLICY_INVALID");
    const late = { texts: [{ file: "a.yaml", text }], since: "2040-01-01T00:00:00Z" };
    equal((await one.post("/v1/preview", late)).code, "NOTHING_RECORDED");
    equal((await one.post("/v1/preview", { ...late, since: "yesterday" })).code, "QUERY_INVALID");
    const large = { texts: [{ file: "a.yaml", text }], policyEntriesMax: 1 << 21 };
    equal((await one.post("/v1/preview", large)).code, "PREVIEW_INVALID");
    const both = await Promise.all(
      [1, 2].map(() => one.post("/v1/preview", { texts: [{ file: "a.yaml", text }] })),
    );
    deepEqual(both.map(({ code }) => code ?? "").sort(), ["", "TOO_MANY_QUERIES"]);
  } finally {
    await one.close();
  }
});
