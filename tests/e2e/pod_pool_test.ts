/**
 * Named pools of pods' addresses: blocks for nodes as they need them, packets between them, what is said when there are no more,
 * and a restart.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { ask, client, type From, whoami } from "./service.ts";
import { processes } from "../faults/faulty_lab.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`pool${Deno.pid}`);
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });
const inPool = (pool: string, text: string) =>
  text.replace("metadata: {", `metadata: { annotations: { ipam.cilium.io/ip-pool: ${pool} },`);
const web = (name: string, node: number) => inPool("edge", whoami(name, node, `app: web`, ["8080/TCP"]));

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(
      2,
      "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n" + `---\n${client("plain", 1)}`,
      [
        "--routing",
        "direct",
      ],
    );
    await lab.ok([
      "endpoint",
      "pool",
      "set",
      "edge",
      "--cidr",
      "10.50.0.0/26",
      "--cidr",
      "fd50::/120",
      "--length-v4",
      "27",
    ]);
    await lab.put([web("web-1", 1), web("web-2", 2), inPool("edge", client("near", 1))].join("---\n"));
  });
  Deno.test.afterAll(async () => await lab.down());
}

/** Addresses of a pod's endpoint. */
async function addressesOf(name: string): Promise<{ ipv4: string; ipv6: string }> {
  const { items } = JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"])) as {
    items?: { name: string; status: { ipv4: string; ipv6: string } }[];
  };
  const all = items ?? JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"]));
  return all.find((one: { name: string }) => one.name === `shop/${name}`).status;
}

e2e(
  "pods that name a pool have addresses of blocks of it, and reach each other and the others, by both families",
  async () => {
    const [one, two] = await Promise.all(["web-1", "web-2"].map(addressesOf));
    assert.match(`${one.ipv4} ${one.ipv6}`, /^10\.50\.0\.\d+ fd50::/);
    assert.match(`${two.ipv4} ${two.ipv6}`, /^10\.50\.0\.\d+ fd50::/);
    const froms: From[] = [{ pod: "shop/near" }, { pod: "shop/plain" }, { node: "node-1" }];
    for (const from of froms) {
      for (const address of [one.ipv4, two.ipv4, one.ipv6, two.ipv6]) {
        await until(
          `${JSON.stringify(from)} reaches ${address}`,
          async () => (await ask(lab, from, "tcp", address, 8080, 1, 2)).failed.length === 0,
        );
      }
    }
    assert.match(
      await lab.ok(["endpoint", "pool", "list"]),
      /edge +10\.50\.0\.0\/26 by \/27 +fd50::\/120 by \/124 +2\/2 +2\/16/,
    );
  },
);

e2e("an endpoint manager that is killed keeps addresses and blocks, and gives no address twice", async () => {
  const before = await addressesOf("web-2");
  const manager = (await processes(lab)).find(({ name, node }) =>
    name === "endpoint-manager" && node === "node-2"
  )!;
  Deno.kill(manager.pid, "SIGKILL");
  await lab.put(web("later", 2));
  assert.notEqual((await addressesOf("later")).ipv4, before.ipv4);
  assert.deepEqual((await addressesOf("web-2")).ipv4, before.ipv4);
  assert.match(await lab.ok(["endpoint", "pool", "list"]), /edge .* 2\/2 /);
});

e2e(
  "a pool that is used up says so on the endpoint that gets nothing and in weir status, and gives again when there is room",
  async () => {
    await lab.ok(["endpoint", "pool", "set", "tiny", "--cidr", "10.51.0.0/29", "--length-v4", "29"]);
    const tiny = (name: string, node: number) => inPool("tiny", client(name, node));
    await lab.put(tiny("first", 1));
    const { err, out } = await lab.weir(["lab", "apply", "-f", "-"], tiny("second", 2));
    await until(() => `it is said: ${out}${err}`, async () => {
      const { out } = await lab.weir(["status"]);
      return /node-2: DEGRADED: addresses: pool tiny: every \/29 of 10\.51\.0\.0\/29 \(pool tiny\) is taken/
        .test(out);
    });
    await lab.ok(["endpoint", "pool", "set", "tiny", "--cidr", "10.51.0.0/28", "--length-v4", "29"]);
    await lab.weir(["lab", "delete", "pod/shop/second"]);
    // A block that its node gives back is free a moment later.
    await until(
      "there is room",
      async () => (await lab.weir(["lab", "apply", "-f", "-"], tiny("third", 2))).code === 0,
    );
    assert.match((await addressesOf("third")).ipv4, /^10\.51\.0\.1\d$/);
  },
);
