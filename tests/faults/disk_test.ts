/**
 * The disk with the state is full, or read-only: nothing ends for it, what is asked is refused with the reason, traffic goes
 * on, and when there is room again everything works as before.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { CAST, clients, isWell, pod, processes, signal, Witness } from "./faulty_lab.ts";

const lab = new Lab(`disk${Deno.pid}`);
const STATE_KIB = 4096;
let state = "";

async function ok(...words: string[]): Promise<void> {
  const { code, err } = await run(words[0], words.slice(1));
  assert.equal(code, 0, `${words.join(" ")}: ${err}`);
}

/** Fills the disk until the block ends. */
async function fill(): Promise<AsyncDisposable> {
  await run("dd", ["if=/dev/zero", `of=${state}/filler`, "bs=4k"]);
  return { [Symbol.asyncDispose]: () => Deno.remove(`${state}/filler`).catch(() => {}) };
}

/** Process ids and names of all services, for "none has ended". */
async function services(): Promise<string> {
  const rows = (await processes(lab)).filter(({ role }) => role !== "pod" && role !== "lab");
  return rows.map(({ node, name, pid }) => `${node} ${name} ${pid}`).sort().join("\n");
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    state = await Deno.makeTempDir({ prefix: "weir-state-" });
    await ok("mount", "-t", "tmpfs", "-o", `size=${STATE_KIB}k,mode=0755`, "none", state);
    Deno.env.set("WEIR_STATE_DIR", state);
    await lab.up(2, CAST);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => {
    await run("mount", ["-o", "remount,rw", state]);
    await Deno.remove(`${state}/filler`).catch(() => {});
    await lab.down();
    Deno.env.delete("WEIR_STATE_DIR");
    await ok("umount", state);
    await Deno.remove(state);
  });
}

Deno.test({
  name: "a full disk: changes are refused with the reason, nothing ends, and with room all goes on",
  ignore: !canRun,
  async fn() {
    await using witness = await Witness.begin(lab);
    const before = await services();
    await using filler = await fill();
    let refused = "";
    // What a database has reserved is still free to it; then nothing is.
    for (let tries = 0; tries < 40 && refused === ""; tries++) {
      const { code, out, err } = await lab.weir(
        ["policy", "apply", "-f", "-"],
        clients("client", `x${tries}`),
      );
      if (code !== 0) refused = `${err}${out}` || "nothing";
    }
    assert.match(refused, /full|no space/i, "a change is refused in the end, and why is said");
    const added = await lab.weir(["lab", "apply", "-f", "-"], pod("full-1", 1));
    assert.notEqual(added.code, 0, "an endpoint that cannot be kept is refused");
    assert.match(added.err, /no space/i);
    await until("weir status says that the disk is full", async () => {
      const { code, out } = await lab.weir(["status"]);
      return code === 1 && /DEGRADED: [a-z-]+: .*full/.test(out);
    });
    await witness.goesOn("while the disk is full");
    assert.equal(await services(), before, "no service has ended");
    await filler[Symbol.asyncDispose]();
    await until(
      "policies can be changed again",
      async () => (await lab.weir(["policy", "apply", "-f", "-"], clients("client", "late"))).code === 0,
    );
    await lab.ok(["lab", "delete", "pod/default/full-1"]);
    await lab.put(pod("late-1", 1));
    await lab.inForce();
    await lab.expect(["from: late-1, to: server-1, port: 80, expect: allow"]);
    await lab.ok(["lab", "delete", "pod/default/late-1"]);
    await lab.apply(clients("client"));
    await witness.goesOn("after there was room again");
    await isWell(lab);
  },
});

Deno.test({
  name: "a read-only disk under services that start: traffic goes on, and what they lack is said",
  ignore: !canRun,
  async fn() {
    await using witness = await Witness.begin(lab);
    // A file that is open for writing keeps the file system writable: the services must be gone for a moment.
    await until("the disk is read-only", async () => {
      const writers = [
        "identity-allocator",
        "policy-engine",
        "load-balancer",
        "endpoint-manager",
        "flow-history",
      ];
      for (const { name, pid } of await processes(lab)) {
        if (writers.includes(name) && pid > 0) signal(pid, "SIGKILL");
      }
      return (await run("mount", ["-o", "remount,ro", state])).code === 0;
    });
    await until("weir status says why a service is not ready", async () => {
      const { code, out } = await lab.weir(["status"]);
      return code === 1 && /read.?only/i.test(out);
    });
    await witness.goesOn("while the disk is read-only");
    await ok("mount", "-o", "remount,rw", state);
    await isWell(lab);
    await witness.goesOn("after the disk can be written again");
    await lab.apply(clients("client"));
  },
});
