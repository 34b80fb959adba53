/**
 * A host of its own in namespaces, with a real systemd as its first process: this machine's files under an overlay that is
 * thrown away, own network, cgroups, bpffs and name. Without the runtime and the module cache of the machine, so that what
 * is installed must bring its own; for `scripts/install` the checkout is at /checkout and what it builds with in /run/runtime.
 * @module
 */
import assert from "node:assert/strict";
import { type Ran, run } from "./weir.ts";

/** Holds what outlives a boot: the files. Each line that comes is a boot. */
const HOLD = `
boot=$1 base=$2; shift
mount -t tmpfs -o mode=0755 weir-host "$base" || exit
mkdir -p "$base"/upper "$base"/work "$base"/root "$base"/cgroup
while read -r _; do
  setpriv --pdeathsig KILL unshare -m -n -p -f -u -i --propagation private --kill-child -- \\
    bash -c "$boot" boot "$@" </dev/null
done
`;

const BOOT = `
set -e
base=$1 name=$2 deno=$3 cache=$4 checkout=$5
mount -t cgroup2 none "$base/cgroup"
# What the last boot left.
for try in $(seq 50); do
  find "$base/cgroup/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
  [ -d "$base/cgroup/$name" ] || break
  sleep 0.1
done
mkdir "$base/cgroup/$name"
echo $$ >"$base/cgroup/$name/cgroup.procs"
exec unshare -C -- bash -ec '
base=$1 name=$2 deno=$3 cache=$4 checkout=$5
umount "$base/cgroup"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount -t cgroup2 none sys/fs/cgroup
mount -t bpf -o mode=0700 none sys/fs/bpf
mount -t tmpfs -o mode=0755 none run
mount -t tmpfs -o mode=1777 none tmp
mount --rbind /dev dev
mkdir -p run/netns root/.cache checkout run/runtime/cache
touch run/runtime/deno
mount --bind "$checkout" checkout
mount --bind "$deno" run/runtime/deno
mount --bind "$cache" run/runtime/cache
mount -t tmpfs none root/.cache
rm -f usr/bin/deno usr/local/bin/deno
# Without one it would be a first boot, at which every unit of the distribution is enabled.
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
echo "$name" >etc/hostname
hostname "$name"
ip link set lo up
exec chroot . /usr/bin/env -i container=docker PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \\
  /lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=no
' boot "$base" "$name" "$deno" "$cache" "$checkout"
`;

/** Why there can be no such host here, or undefined. */
export async function whyNoSystemd(): Promise<string | undefined> {
  if (Deno.uid() !== 0) return "it needs root";
  for (const path of ["/lib/systemd/systemd", "/usr/bin/dpkg-deb", "/usr/bin/unshare"]) {
    if (await Deno.stat(path).then(() => false, () => true)) return `${path} is not there`;
  }
  const tried = await run("unshare", ["-m", "-n", "-p", "-f", "-u", "-i", "-C", "true"]);
  return tried.code === 0 ? undefined : `namespaces cannot be made: ${tried.err.trim()}`;
}

/** One such host; `await using` ends it and removes every trace. */
export class SystemdHost {
  readonly #child: Deno.ChildProcess;
  readonly #base: string;
  readonly #boots: WritableStreamDefaultWriter<Uint8Array>;
  #ended = false;
  #pid = 0;

  private constructor(readonly name: string, base: string, child: Deno.ChildProcess) {
    this.#base = base;
    this.#child = child;
    this.#boots = child.stdin.getWriter();
    child.status.then(() => this.#ended = true);
  }

  /** This machine's pid of the host's systemd. */
  get pid(): number {
    return this.#pid;
  }

  /** Boots; resolves when systemd takes commands. The name must be free in this machine's cgroups. */
  static async boot(name: string): Promise<SystemdHost> {
    const base = await Deno.makeTempDir({ prefix: "weir-host-" });
    const child = new Deno.Command("setpriv", {
      args: [
        ...[
          "--pdeathsig",
          "KILL",
          "unshare",
          "-m",
          "--propagation",
          "private",
          "--",
          "bash",
          "-c",
          HOLD,
          "hold",
        ],
        ...[BOOT, base, name],
        ...await buildPaths(),
      ],
      stdin: "piped",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    const host = new SystemdHost(name, base, child);
    try {
      await host.#boot();
      return host;
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The power fails, and it boots again: what was written to files stays. */
  async reboot(): Promise<void> {
    const before = this.#pid;
    Deno.kill(before, "SIGKILL");
    while (await commandOf(before) !== "") await new Promise((resolve) => setTimeout(resolve, 20));
    await this.#boot();
  }

  async #boot(): Promise<void> {
    await this.#boots.write(new TextEncoder().encode("boot\n"));
    for (;;) {
      assert.ok(!this.#ended, `the host ${this.name} ended while it booted`);
      const outer = await firstChild(this.#child.pid);
      const pid = outer === undefined ? undefined : await firstChild(outer);
      if (pid !== undefined && await commandOf(pid) === "systemd") {
        this.#pid = pid;
        const { out } = await this.run("systemctl", "is-system-running");
        if (/running|degraded/.test(out)) return;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** A wire between two hosts, at the device eth0 of both. */
  static async connect(a: SystemdHost, addressA: string, b: SystemdHost, addressB: string): Promise<void> {
    const far = ["type", "veth", "peer", "name", "eth0", "netns", String(b.pid)];
    const made = await run("nsenter", ["-t", String(a.pid), "-n", "ip", "link", "add", "eth0", ...far]);
    assert.equal(made.code, 0, made.err);
    for (const [host, address] of [[a, addressA], [b, addressB]] as const) {
      await host.sh(`ip address add ${address}/24 dev eth0; ip link set eth0 up`);
    }
  }

  /** Runs a command inside, whatever comes of it. */
  run(...words: string[]): Promise<Ran> {
    return run("nsenter", this.words(...words));
  }

  /** Like {@link SystemdHost.run}, and it must end with 0. */
  async ok(...words: string[]): Promise<string> {
    const ran = await this.run(...words);
    assert.equal(ran.code, 0, `${this.name}: ${words.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
    return ran.out;
  }

  /** A script of sh inside, which must end with 0. */
  async sh(script: string): Promise<string> {
    return await this.ok("sh", "-ec", script);
  }

  /** Writes a file inside. */
  async write(path: string, content: string | Uint8Array): Promise<void> {
    const target = `/proc/${this.pid}/root${path}`;
    if (typeof content === "string") await Deno.writeTextFile(target, content);
    else await Deno.writeFile(target, content);
  }

  /** Arguments of nsenter for a command inside. */
  words(...words: string[]): string[] {
    const environment = [
      "env",
      "-i",
      "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
      "HOME=/root",
      "NO_COLOR=1",
      "LANG=C.UTF-8",
    ];
    return ["-t", String(this.pid), "-a", "-r", "-w", "--", ...environment, ...words];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#boots.close().catch(() => {});
    await remove(this.name, this.#base, this.#child, this.#ended);
  }
}

/** This machine's runtime, its cache, and the checkout. */
async function buildPaths(): Promise<string[]> {
  const { out } = await run(Deno.execPath(), ["info", "--json"]);
  const { denoDir } = JSON.parse(out) as { denoDir: string };
  return [await Deno.realPath(Deno.execPath()), denoDir, new URL("../../", import.meta.url).pathname];
}

/** With its first process everything inside dies, and with the last one namespaces and mounts. */
async function remove(name: string, base: string, child: Deno.ChildProcess, ended: boolean): Promise<void> {
  try {
    if (!ended) child.kill("SIGKILL");
  } catch { /* it has ended meanwhile */ }
  await child.status;
  const sweep = `
mount -t cgroup2 none "$1"
for try in $(seq 50); do
  find "$1/$2" -depth -type d -exec rmdir {} + 2>/dev/null
  [ -d "$1/$2" ] || exit 0
  sleep 0.1
done
exit 1`;
  await run("unshare", ["-m", "--propagation", "private", "--", "sh", "-c", sweep, "sweep", base, name]);
  await Deno.remove(base, { recursive: true });
}

async function firstChild(pid: number): Promise<number | undefined> {
  const text = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`).catch(() => "");
  return Number(text.trim().split(" ")[0]) || undefined;
}

async function commandOf(pid: number): Promise<string> {
  return (await Deno.readTextFile(`/proc/${pid}/comm`).catch(() => "")).trim();
}
