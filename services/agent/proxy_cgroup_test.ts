import { deepEqual, doesNotMatch, equal, match, rejects } from "node:assert/strict";
import { cgroupRoot } from "@weir/common";
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

Deno.test("makeProxyCgroup() goes on without a group where that would take no process", async () => {
  const root = cgroupRoot(await Deno.readTextFile("/proc/self/mountinfo"));
  const directory = `${root}/weir-test-${crypto.randomUUID()}`, threaded = `${directory}/threaded`;
  try {
    await Deno.mkdir(threaded, { recursive: true });
    await Deno.writeTextFile(`${threaded}/cgroup.type`, "threaded");
  } catch {
    return; // Only root may, and only where there are groups of version 2.
  }
  try {
    const places = { instance: "x", mountinfo: mounted(threaded), own: "0::/\n" };
    const made = await makeProxyCgroup(places);
    match("why" in made ? made.why : "", /cgroup\.procs|I\/O error|not supported/);
    deepEqual([...Deno.readDirSync(threaded)].filter((entry) => entry.isDirectory), [], "nothing is left");
  } finally {
    await Deno.remove(threaded);
    await Deno.remove(directory);
  }
});

Deno.test("makeProxyCgroup() makes it in a container as Kubernetes gives it: a namespace of groups, read-only, and the host's beside it", async () => {
  const root = cgroupRoot(await Deno.readTextFile("/proc/self/mountinfo"));
  const name = `weir-test-${crypto.randomUUID()}`, pod = `${root}/${name}`, container = `${pod}/container`;
  try {
    await Deno.mkdir(container, { recursive: true });
  } catch {
    return; // Only root may, and only where there are groups of version 2.
  }
  const directory = await Deno.makeTempDir(), config = new URL("deno.json", import.meta.url).pathname;
  const script = `mkdir ${directory}/host && mount --rbind /sys/fs/cgroup ${directory}/host &&
mount --bind ${container} /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup && exec "$@"`;
  const words = ["unshare", "--mount", "--cgroup", "sh", "-c", script, "sh", Deno.execPath(), "run", "-A"];
  const program = `const { makeProxyCgroup, inCgroup } = await import("${new URL(
    "proxy_cgroup.ts",
    import.meta.url,
  )}");
const made = await makeProxyCgroup({ instance: "x", root: "${directory}/host", own: "0::/\\n",
  mountinfo: "30 20 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\\n" });
const [sh, ...args] = inCgroup(made.path, ["cat", "/proc/self/cgroup"]);
console.log(made.path, new TextDecoder().decode((await new Deno.Command(sh, { args }).output()).stdout));`;
  try {
    await Deno.writeTextFile(`${directory}/x.ts`, program);
    // What the image has: bash, dash, coreutils and util-linux (deploy/images/images.json).
    await Deno.mkdir(`${directory}/bin`);
    for (const name of ["bash", "sh", "cat", "mkdir", "rmdir", "true", "mount", "unshare"]) {
      await Deno.symlink(`/bin/${name}`, `${directory}/bin/${name}`);
    }
    const env = { PATH: `${directory}/bin` };
    const run = [...words, "--no-check", "--config", config, `${directory}/x.ts`];
    const [command, ...args] = inCgroup(container, run);
    const { stdout, stderr } = await new Deno.Command(`/bin/${command}`, { args, env }).output();
    const said = new TextDecoder().decode(stdout), group = `${name}/container/weir-x-l7-proxy`;
    match(said, new RegExp(`^${directory}/host/(unified/)?${group} `), new TextDecoder().decode(stderr));
    match(said, /^0::\/weir-x-l7-proxy$/m, "a process of the container is in it");
    await Deno.remove(`${root}/${group}`);
  } finally {
    for (const path of [container, pod, directory]) {
      await Deno.remove(path, { recursive: path === directory });
    }
  }
});
