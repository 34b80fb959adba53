/** Everything that a cluster is made of, made once. @module */
import { type Cache, exists, SOURCES } from "../cluster/layout.ts";
import { ok, run } from "../cluster/process.ts";
import { makeImages } from "./images.ts";
import { hasApt, unpackPackages } from "./packages.ts";
import { makePolicyApi } from "./policy_api.ts";
import { buildPrograms, CLUSTER_PROGRAMS, HELM } from "./programs.ts";
import { makeStore } from "./store.ts";

const PACKAGES = ["etcd-server", "containerd", "runc"];

/** Commands that this needs of the machine, each with its package. */
const COMMANDS = {
  ip: "iproute2",
  iptables: "iptables",
  nsenter: "util-linux",
  unshare: "util-linux",
  tar: "tar",
  sha256sum: "coreutils",
};

/** Compilers of C, one of which is needed. */
const COMPILERS = [
  "cc",
  "gcc",
  ...[19, 21, 20, 18, 17, 16, 15].map((version) => `clang-${version}`),
  "clang",
];

/** Something of the machine is missing; the message says how it comes. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}

/** @throws {MissingError} with all that is missing */
async function needCommands(): Promise<void> {
  const missing: string[] = [];
  for (const [command, name] of Object.entries(COMMANDS)) if (!await has(command)) missing.push(name);
  if (missing.length > 0) {
    throw new MissingError(`Missing here: apt-get install ${[...new Set(missing)].join(" ")}`);
  }
}

async function has(command: string): Promise<boolean> {
  return (await run(["sh", "-c", 'command -v "$0"', command])).code === 0;
}

async function compiler(): Promise<string> {
  for (const name of COMPILERS) if (await has(name)) return name;
  throw new MissingError("No compiler of C is here: apt-get install gcc libc6-dev");
}

/** Makes what is not there. Nothing to do takes no time worth the word; two at once wait for each other. */
export async function makeParts(cache: Cache, say: (text: string) => void): Promise<void> {
  await needCommands();
  using _lock = await lockOf(cache);
  const pause = `${cache.bin}/pause`, source = `${SOURCES}/cluster/pause.c`;
  const stamp = `${cache.directory}/pause.stamp`, wanted = await Deno.readTextFile(source);
  if (!exists(pause) || !exists(stamp) || await Deno.readTextFile(stamp) !== wanted) {
    say("building pause");
    await ok([await compiler(), "-O2", "-static", "-s", "-Wall", "-Wextra", "-o", `${pause}.new`, source]);
    await Deno.rename(`${pause}.new`, pause);
    await Deno.writeTextFile(stamp, wanted);
  }
  if (!exists(cache.packages)) {
    if (!await hasApt()) throw new MissingError("Cannot fetch etcd, containerd and runc: this is not Debian");
    say(`fetching ${PACKAGES.join(", ")} (unpacked, not installed)`);
    await unpackPackages(PACKAGES, `${cache.packages}.new`);
    await Deno.rename(`${cache.packages}.new`, cache.packages);
  }
  await buildPrograms(CLUSTER_PROGRAMS, cache, say);
  await makeImages(cache, say);
  await makeStore(cache, say);
}

/** What some tests need and no cluster: helm, with which people install charts; the conformance suite of network-policy-api. */
export async function makeMoreParts(cache: Cache, say: (text: string) => void): Promise<void> {
  using _lock = await lockOf(cache);
  await makePolicyApi(cache, say);
  await buildPrograms(HELM, cache, say);
}

/** Held until it is disposed of. */
async function lockOf(cache: Cache): Promise<Deno.FsFile> {
  await Deno.mkdir(cache.bin, { recursive: true });
  const lock = await Deno.open(`${cache.directory}/lock`, { write: true, create: true });
  await lock.lock(true);
  return lock;
}
