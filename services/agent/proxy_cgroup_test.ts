import { deepEqual, doesNotMatch, equal, match, rejects } from "node:assert/strict";
import { ensureCgroup, inCgroup, makeProxyCgroup, removeCgroup, sameGroup } from "./proxy_cgroup.ts";

const mounted = (point: string) => `30 20 0:26 / ${point} rw,nosuid - cgroup2 cgroup2 rw\n`;

Deno.test("makeProxyCgroup() says why there is none: no hierarchy, one from outside, a mere directory", async () => {
  const none = "no control groups of version 2 are mounted here";
  for (
    const [mountinfo, own] of [["", "0::/\n"], [mounted("/x"), "0::/../other\n"], [
      mounted("/x"),
      "1:cpu:/\n",
    ]]
  ) {
    deepEqual(await makeProxyCgroup({ instance: "x", mountinfo, own }), { why: none });
  }
  const directory = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${directory}/own`);
    const made = await makeProxyCgroup({ instance: "x", mountinfo: mounted(directory), own: "0::/own\n" });
    match("why" in made ? made.why : "", /is no control group$/);
    deepEqual([...Deno.readDirSync(`${directory}/own`)], [], "nothing is left behind");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name:
    "makeProxyCgroup() and sameGroup() ask no more of Deno than the agent has: /proc and /sys are for --allow-all",
  permissions: { read: true, write: true, run: true, env: true },
  async fn() {
    await rejects(Deno.readTextFile("/proc/self/mountinfo"), Deno.errors.NotCapable);
    const made = await makeProxyCgroup({ instance: `test-${Deno.pid}`, root: "/sys/fs/cgroup" });
    if ("why" in made) return doesNotMatch(made.why, /access/);
    await ensureCgroup(made.path);
    await removeCgroup(made.path);
    await rejects(ensureCgroup(`${made.path}/below`), /No such file/, "it is removed");
  },
});

Deno.test("sameGroup() finds a group in another mount of all, beside version 1 too", async () => {
  const directory = await Deno.makeTempDir();
  try {
    for (const root of [`${directory}/host`, `${directory}/host/unified`]) {
      await Deno.mkdir(`${root}/pods/a`, { recursive: true });
      await Deno.mkdir(`${root}/pods/b/c`, { recursive: true });
      equal(await sameGroup(`${root}/pods/b/c`, `${directory}/host`), `${root}/pods/b/c`);
      await Deno.remove(`${directory}/host`, { recursive: true });
    }
    await Deno.mkdir(`${directory}/host/pods`, { recursive: true });
    equal(await sameGroup(directory, `${directory}/host`), undefined);
    equal(await sameGroup(directory, ""), undefined);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("inCgroup() starts a program in the group, and not at all where it cannot", async () => {
  const directory = await Deno.makeTempDir();
  const run = async (path: string) => {
    const [command, ...args] = inCgroup(path, ["echo", "it's", "$HOME"]);
    const { code, stdout } = await new Deno.Command(command, { args, stderr: "null" }).output();
    return [code === 0, new TextDecoder().decode(stdout)];
  };
  try {
    deepEqual(await run(directory), [true, "it's $HOME\n"]);
    match(await Deno.readTextFile(`${directory}/cgroup.procs`), /^\d+\n$/);
    deepEqual(await run(`${directory}/nowhere`), [false, ""]);
    await rejects(ensureCgroup(`${directory}/nowhere/there`), /No such file/);
    await ensureCgroup(directory);
    await removeCgroup(directory);
    equal((await Deno.stat(directory)).isDirectory, true, "one that is in use stays");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
