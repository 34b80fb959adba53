import assert from "node:assert/strict";
import { Health, Logger } from "@weir/common";
import { readCniRecord } from "@weir/common/cni-record";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { CniInstaller } from "./cni_installer.ts";
import type { Layout } from "./layout.ts";

Deno.test("CniInstaller installs the plugin at once, the configuration when pods can be taken, and looks after both", async () => {
  const root = await Deno.makeTempDir();
  try {
    const layout = { instance: "host", sockets: `${root}/run`, state: `${root}/state` } as Layout;
    await Deno.mkdir(layout.state);
    await Deno.writeTextFile(`${root}/built`, "plugin 1");
    let why: string | undefined = "it waits for the datapath";
    const installer = new CniInstaller({
      layout,
      configDirectory: `${root}/net.d`,
      pluginDirectory: `${root}/bin`,
      ask: () => Promise.resolve(why),
      clock: new FakeClock(),
      health: new Health(),
      log: Logger.silent(),
      built: `${root}/built`,
    });
    const plugin = `${root}/bin/weir-cni`, config = `${root}/net.d/05-weir.conflist`;
    const names = (directory: string) => Array.from(Deno.readDirSync(directory), ({ name }) => name);

    assert.equal(await installer.step(), why);
    assert.equal(await Deno.readTextFile(plugin), "plugin 1");
    assert.equal((await Deno.stat(plugin)).mode! & 0o777, 0o755);
    await assert.rejects(Deno.stat(config), Deno.errors.NotFound);

    why = undefined;
    assert.equal(await installer.step(), undefined);
    const list = JSON.parse(await Deno.readTextFile(config));
    assert.deepEqual(list.plugins, [
      { type: "weir-cni", socket: `${root}/run/cni.sock`, deletions: `${root}/state/cni-deletions` },
    ]);
    assert.deepEqual(readCniRecord(layout.state), { config, plugin });

    // A newer version, while the plugin runs and the node is not ready: the configuration that is there stays.
    why = "it waits for the datapath";
    using running = await Deno.open(plugin);
    await Deno.writeTextFile(`${root}/built`, "plugin 2");
    assert.equal(await installer.step(), undefined);
    assert.equal(await Deno.readTextFile(plugin), "plugin 2");
    const old = new Uint8Array(8);
    await running.read(old);
    assert.equal(new TextDecoder().decode(old), "plugin 1", "what runs is not written to");

    await Deno.remove(plugin);
    await Deno.writeTextFile(config, "{}");
    assert.equal(await installer.step(), why, "a broken one is written again when pods can be taken");
    why = undefined;
    assert.equal(await installer.step(), undefined);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(config)), list);
    assert.deepEqual([names(`${root}/bin`), names(`${root}/net.d`)], [["weir-cni"], ["05-weir.conflist"]]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
