/** When policies are enforced, and what those in audit mode tell, with real packets on one node. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { canRun, Lab } from "./weir.ts";

const server = new URL("testdata/server.py", import.meta.url).pathname;
const pod = (name: string, command: string[]) =>
  `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { nodeName: node-1, containers: [{ name: main, command: ${JSON.stringify(command)} }] }
---
`;
const PODS = pod("web", ["python3", server, "80/TCP"]) + pod("client", ["sleep", "infinity"]) +
  pod("other", ["sleep", "infinity"]);
const CLOSED = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: closed, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress: [{ fromEndpoints: [{ matchLabels: { app: other } }] }]
`;
const lab = new Lab(`modes${Deno.pid}`);
const enforcement = (name: string, mode: string) =>
  lab.ok(["endpoint", "config", `shop/${name}`, `enforcement=${mode}`]);
const expect = async (verdict: "allow" | "deny") => {
  await lab.inForce();
  await lab.expect([`from: client, to: web, port: 80, expect: ${verdict}`]);
};

if (canRun) {
  Deno.test.beforeAll(async () => await lab.up(1, PODS));
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

e2e("an endpoint is enforced always, never or by its policies, and explain and the list say so", async () => {
  await expect("allow");
  await enforcement("client", "always");
  await expect("deny");
  const denied = await lab.weir(["explain", "--from", "shop/client", "--to", "shop/web", "--port", "80"]);
  assert.equal(denied.code, 3, denied.out + denied.err);
  assert.match(denied.out, /the source is always enforced/);
  assert.match(await lab.ok(["endpoint", "list"]), /shop\/client .*enforced \(always\) +enforced \(always\)/);
  await enforcement("client", "default");
  await lab.apply(CLOSED);
  await expect("deny");
  await enforcement("web", "never");
  await expect("allow");
  assert.match(
    await lab.ok(["explain", "--from", "shop/client", "--to", "shop/web", "--port", "80"]),
    /never enforced on the destination/,
  );
  await lab.ok(["endpoint", "config", "shop/web", "enforcement-"]);
  await until("the node's own mode is in force", async () => {
    const [{ status }] = [JSON.parse(await lab.ok(["endpoint", "get", "shop/web", "-o", "json"]))];
    return status.enforcement === "DEFAULT";
  });
  await expect("deny");
});

e2e(
  "what a policy in audit mode denies passes and is told as AUDIT, and others drop what they drop",
  async () => {
    const audit = (name: string, spec: string, mode = "audit") =>
      `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: ${name}, namespace: shop, annotations: { weir.dev/mode: ${mode} } }
spec: { endpointSelector: { matchLabels: { app: web } }, ${spec} }
`;
    const from = (app: string) => `[{ fromEndpoints: [{ matchLabels: { app: ${app} } }] }]`;
    await lab.drop("cnp:shop/closed");
    await lab.apply(audit("tried", `ingress: ${from("other")}`));
    await lab.expect([
      "from: client, to: web, port: 80, expect: allow",
      "from: other, to: web, port: 80, expect: allow",
    ]);
    const observe = (...words: string[]) =>
      lab.ok([
        "observe",
        "--last",
        "200",
        "--to-pod",
        "shop/web",
        "--type",
        "policy-verdict",
        "-o",
        "json",
        ...words,
      ]);
    let seen = "";
    await until(() => `it is told: ${seen}`, async () => {
      seen = await observe("--verdict", "AUDIT");
      return seen.trim() !== "";
    });
    for (const line of seen.trim().split("\n")) {
      const { flow } = JSON.parse(line);
      assert.deepEqual([flow.verdict, flow.source.pod_name, flow.traffic_direction], [
        "AUDIT",
        "client",
        "INGRESS",
      ]);
      assert.equal(flow.ingress_denied_by[0].name, "tried");
    }
    assert.match(
      await lab.ok(["observe", "--last", "200", "--to-pod", "shop/web", "--verdict", "AUDIT"]),
      /AUDITED/,
    );
    assert.match(await lab.ok(["policy", "list"]), /shop +tried +CiliumNetworkPolicy +audit/);
    assert.match(
      await lab.ok(["explain", "--from", "shop/client", "--to", "shop/web", "--port", "80"]),
      /cnp:shop\/tried would deny 80\/TCP from the source by default if it were enforced/,
    );
    // Another policy that is enforced drops, and the audit of its neighbour opens nothing.
    await lab.apply(audit("closed", `ingressDeny: ${from("client")}, ingress: ${from("other")}`, "enforce"));
    await lab.expect([
      "from: client, to: web, port: 80, expect: deny",
      "from: other, to: web, port: 80, expect: allow",
    ]);
    await lab.drop("cnp:shop/closed");
    // From now on it bites.
    await lab.apply(audit("tried", `ingress: ${from("other")}`, "enforce"));
    await lab.expect([
      "from: client, to: web, port: 80, expect: deny",
      "from: other, to: web, port: 80, expect: allow",
    ]);
  },
);

e2e(
  "an endpoint in audit mode loses nothing to its policies, and their verdicts are told as AUDIT",
  async () => {
    // The policy that bites, of the test before.
    await lab.expect(["from: client, to: web, port: 80, expect: deny"]);
    await lab.ok(["endpoint", "config", "shop/web", "audit=on"]);
    await lab.inForce();
    await until(
      "audit mode is in force",
      async () => /shop\/web .* audit +open/.test(await lab.ok(["endpoint", "list"])),
    );
    const since = new Date().toISOString();
    await lab.expect(["from: client, to: web, port: 80, expect: allow"]);
    await until("it is told", async () => {
      const words = ["--since", since, "--to-pod", "shop/web", "--verdict", "AUDIT", "-o", "json"];
      const [line] = (await lab.ok(["observe", ...words])).trim().split("\n");
      return line !== "" && JSON.parse(line).flow.ingress_denied_by[0].name === "tried";
    });
    const explained = await lab.ok(["explain", "--from", "shop/client", "--to", "shop/web", "--port", "80"]);
    assert.match(explained, /Denied by default: cnp:shop\/tried .*audited: it passes/);
    await lab.ok(["endpoint", "config", "shop/web", "audit-"]);
    await lab.inForce();
    await until(
      "it is over",
      async () => /shop\/web .* enforced +open/.test(await lab.ok(["endpoint", "list"])),
    );
    await lab.expect(["from: client, to: web, port: 80, expect: deny"]);
  },
);
