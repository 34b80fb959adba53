import assert from "node:assert/strict";
import { decodeDevice } from "./link.ts";
import { concernsLocal, listLocalAddresses, LocalWatcher } from "./local.ts";
import { concat, encodeAttributes, encodeMessage, NetlinkSocket, Rtm } from "./netlink.ts";
import { Netns } from "./netns.ts";

async function ip(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ip", { args, stderr: "piped" }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}
const permitted = Deno.uid() === 0;

Deno.test({
  name: "LocalWatcher says at once that the host got or lost an address, and nothing of a link's own",
  ignore: !permitted,
  fn: async () => {
    const name = `wt-local-${Deno.pid}`;
    await ip("netns", "add", name);
    try {
      using netns = Netns.open(`/run/netns/${name}`);
      using socket = new NetlinkSocket(netns);
      let changes = 0;
      using _ = netns.enter(() => new LocalWatcher(() => changes++));
      /** Whether it was told of; of what is to be nobody's business for half a second. */
      const after = async (waitMs: number, ...args: string[]) => {
        const before = changes;
        await ip("-n", name, ...args);
        for (let ms = 0; ms < waitMs && changes === before; ms += 25) {
          await new Promise((done) => setTimeout(done, 25));
        }
        return changes > before;
      };
      const tells = (...args: string[]) => after(60_000, ...args),
        tellsNot = async (...args: string[]) => !await after(500, ...args);
      const local = () =>
        listLocalAddresses(socket).filter(({ bytes }) => bytes.length === 4).map(({ bytes, broadcast }) =>
          `${bytes.join(".")}${broadcast ? " broadcast" : ""}`
        );
      await ip("-n", name, "link", "add", "d0", "type", "bridge");
      assert.ok(await tellsNot("link", "set", "d0", "up")); // its fe80:: is nobody's business
      assert.ok(await tells("address", "add", "192.0.2.9/24", "brd", "+", "dev", "d0"));
      assert.ok(local().includes("192.0.2.9") && local().includes("192.0.2.255 broadcast"), `${local()}`);
      assert.ok(await tells("address", "add", "169.254.3.4/16", "scope", "link", "dev", "d0"));
      assert.ok(local().includes("169.254.3.4"));
      assert.ok(await tells("address", "add", "2001:db8:5::1/64", "dev", "d0", "nodad"));
      assert.ok(await tells("route", "add", "local", "203.0.113.7/32", "dev", "lo"));
      assert.ok(local().includes("203.0.113.7"));
      assert.ok(await tellsNot("route", "add", "198.51.100.0/24", "dev", "d0"));
      assert.ok(await tells("address", "delete", "192.0.2.9/24", "dev", "d0"));
      assert.ok(!local().includes("192.0.2.9") && !local().includes("192.0.2.255 broadcast"));
    } finally {
      await ip("netns", "delete", name);
    }
    await new Promise((done) => setTimeout(done, 300)); // the last wait ends
  },
});

Deno.test("concernsLocal() takes what is torn for a change, and other tables for none", () => {
  const route = (table: number, family: number, destination: number[]) =>
    encodeMessage(
      Rtm.NEWROUTE,
      0,
      1,
      concat([
        Uint8Array.of(family, destination.length * 8, 0, 0, table, 0, 0, 2, 0, 0, 0, 0),
        encodeAttributes([[1, Uint8Array.from(destination)]]),
      ]),
    );
  const link = [0xfe, 0x80, ...Array(14).fill(1)], group = [0xff, 2, ...Array(14).fill(0)];
  assert.equal(concernsLocal(route(255, 2, [192, 0, 2, 1])), true);
  assert.equal(concernsLocal(route(254, 2, [192, 0, 2, 1])), false);
  for (const address of [link, group]) assert.equal(concernsLocal(route(255, 10, address)), false);
  assert.equal(
    concernsLocal(concat([route(255, 10, link), route(255, 10, [0x20, ...Array(15).fill(1)])])),
    true,
  );
  assert.equal(concernsLocal(route(255, 10, link).subarray(0, 30)), true);
  assert.equal(concernsLocal(new Uint8Array(0)), false);
});

Deno.test("decodeDevice() knows a VLAN device's number and the device below", () => {
  const u32 = (value: number) => new Uint8Array(new Uint32Array([value]).buffer);
  const kind = new TextEncoder().encode("vlan\0") as Uint8Array<ArrayBuffer>;
  const header = concat([new Uint8Array(4), u32(9), u32(1), u32(0)]);
  const info = [[1, kind], [2, [[1, Uint8Array.of(100, 0)]]]] as const;
  const device = decodeDevice(concat([header, encodeAttributes([[5, u32(3)], [18, info]])]));
  assert.deepEqual([device.ifindex, device.kind, device.vlan], [9, "vlan", { parent: 3, id: 100 }]);
});
