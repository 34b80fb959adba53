/**
 * Brings the state of an older version to where this one keeps it: each service in a directory of its own.
 *
 * @module
 */
import { lchown } from "node:fs/promises";
import { directory, type Layout, stateOf } from "./layout.ts";

/** Service, and what it had directly in the state directory of the instance; the first name decides. */
const MOVES: Readonly<Record<string, readonly string[]>> = {
  "certificate-authority": [],
  "identity-allocator": ["identity.db", "identity.db-wal", "identity.db-shm"],
  "policy-engine": ["policy.db", "policy.db-wal", "policy.db-shm"],
  "flow-history": [],
  "ui": [],
  "load-balancer": ["load-balancer.db", "load-balancer.db-wal", "load-balancer.db-shm"],
  "endpoint-manager": ["endpoints"],
  "l7-proxy": [],
};

/**
 * Makes the directories of the services and moves what an older version left, by rename: a crash in between leaves every
 * file in one of both places, and the next start goes on. What is there already is never replaced. Files of another
 * unprivileged user (the node had no user `weir` before) become the services'. Only while no service runs.
 *
 * @param more services beside those that every configuration has
 * @returns what was moved, and what was left because there is something newer
 */
export async function migrateState(
  layout: Layout,
  more: readonly string[] = [],
): Promise<{ moved: string[]; left: string[] }> {
  const moved: string[] = [], left: string[] = [];
  for (const [service, names] of [...Object.entries(MOVES), ...more.map((name) => [name, []] as const)]) {
    const to = stateOf(layout, service);
    await directory(to, 0o700, layout.uid, layout.gid);
    const [main] = names;
    if (await exists(`${to}/${main}`) && await exists(`${layout.state}/${main}`)) {
      left.push(`${layout.state}/${main}`);
      continue;
    }
    // The database itself goes last: while it is in the old place the move is known to be unfinished.
    for (const name of [...names].reverse()) {
      if (!await exists(`${layout.state}/${name}`) || await exists(`${to}/${name}`)) continue;
      await Deno.rename(`${layout.state}/${name}`, `${to}/${name}`);
      moved.push(name);
    }
    await takeOver(to, layout);
  }
  // What a process judged by that has not run meanwhile is too old to be begun with.
  for await (const { name } of Deno.readDir(layout.state)) {
    if (/^l7-proxy-\d+$/.test(name) && !more.includes(name)) {
      await Deno.remove(`${layout.state}/${name}`, { recursive: true });
    }
  }
  return { moved, left };
}

/** Gives the services what belongs to another unprivileged user. Links are not followed, and root's files are left. */
async function takeOver(path: string, layout: Layout): Promise<void> {
  for await (const entry of Deno.readDir(path)) {
    const child = `${path}/${entry.name}`;
    const info = await Deno.lstat(child);
    // One name only: another could be somebody else's file.
    const single = info.isDirectory || (info.isFile && info.nlink === 1);
    if (!single || info.uid === 0) continue;
    if (info.uid !== layout.uid || info.gid !== layout.gid) await lchown(child, layout.uid, layout.gid);
    if (info.isDirectory) await takeOver(child, layout);
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
