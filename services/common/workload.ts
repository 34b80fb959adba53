/**
 * The workload that a pod belongs to, told by its name as Kubernetes' controllers give it: Weir hears of pods, not of who owns them.
 * A pod whose name has no such form is its own workload, as Hubble has it of pods without an owner.
 * @module
 */

/** A workload. */
export interface Workload {
  readonly name: string;
  readonly kind: string;
}

// Letters and digits that Kubernetes makes random names of: no vowels, no 0, 1 and 3.
const SAFE = "[bcdfghjklmnpqrstvwxz2456789]";
const FORMS: readonly (readonly [kind: string, form: RegExp])[] = [
  // NAME-<hash of the template>-<random>
  ["Deployment", new RegExp(`^(.+)-${SAFE}{6,10}-${SAFE}{5}$`)],
  // NAME-<random>: a daemon set, a replica set or a job
  ["DaemonSet", new RegExp(`^(.+)-${SAFE}{5}$`)],
  ["StatefulSet", /^(.+)-[0-9]{1,5}$/],
];

/** The workload of a pod; undefined for "" (no pod). */
export function workloadOf(podName: string): Workload | undefined {
  if (podName === "") return undefined;
  for (const [kind, form] of FORMS) {
    const name = form.exec(podName)?.[1];
    if (name !== undefined) return { name, kind };
  }
  return { name: podName, kind: "Pod" };
}
