/**
 * The built web page where the services' user may read it: an installation's is where it was installed, that of a checkout, which may
 * lie under a closed home directory, is copied beside the bundles.
 * @module
 */
import { ROOT, SHIPPED } from "./bundle.ts";
import type { Layout } from "./layout.ts";

const BUILT = `${ROOT}.build/ui`;

/** Where the page is read. */
export function pageDirectory(layout: Layout): string {
  return isInstalled() ? BUILT : `${layout.code}/page`;
}

/** Puts the built page there. Of several agents that do so at once, the last one's stays; files appear whole. */
export async function ensurePage(layout: Layout): Promise<void> {
  const to = pageDirectory(layout);
  if (to === BUILT) return;
  const stampOf = (directory: string) => Deno.readTextFile(`${directory}/stamp`).catch(() => "");
  const stamp = await stampOf(BUILT);
  // One that was not built is missed by the service, which says what to do.
  if (stamp === "" || stamp === await stampOf(to)) return;
  using lock = await Deno.open(`${layout.code}/.page.lock`, { create: true, write: true });
  await lock.lock(true);
  if (stamp === await stampOf(to)) return;
  const next = `${to}.new`;
  await Deno.remove(next, { recursive: true }).catch(() => {});
  for (const folder of ["", "assets/"]) {
    await Deno.mkdir(`${next}/${folder}`, { recursive: true });
    for await (const { name, isFile } of Deno.readDir(`${BUILT}/${folder}`)) {
      if (!isFile) continue;
      await Deno.copyFile(`${BUILT}/${folder}${name}`, `${next}/${folder}${name}`);
      await Deno.chmod(`${next}/${folder}${name}`, 0o644);
    }
    await Deno.chmod(`${next}/${folder}`, 0o755);
  }
  await Deno.remove(to, { recursive: true }).catch(() => {});
  await Deno.rename(next, to);
}

function isInstalled(): boolean {
  try {
    return Deno.statSync(SHIPPED).isDirectory;
  } catch {
    return false;
  }
}
