/**
 * The versions of CNI's protocol that are spoken, and what each has. `plugin/build.ts` puts the list into the plugin, which says it when no agent
 * is there.
 * @module
 */

/** Oldest first. */
export const CNI_VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

/** One of {@link CNI_VERSIONS}. */
export type CniVersion = typeof CNI_VERSIONS[number];

/** The version with which each command, or form, came. */
const SINCE = {
  ADD: "0.3.0",
  DEL: "0.3.0",
  CHECK: "0.4.0",
  GC: "1.1.0",
  STATUS: "1.1.0",
  /** Addresses do not say their family any more. */
  addressesWithoutVersion: "1.0.0",
  /** Interfaces and routes say their MTU. */
  mtu: "1.1.0",
} as const satisfies Record<string, CniVersion>;

/** Whether it is spoken here. */
export function isCniVersion(text: unknown): text is CniVersion {
  return (CNI_VERSIONS as readonly unknown[]).includes(text);
}

/** Whether a version has a command or a form. */
export function has(version: CniVersion, what: keyof typeof SINCE): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(SINCE[what]);
}
