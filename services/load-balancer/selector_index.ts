/**
 * Which services select a pod, and which pods a service selects, without looking at all of either: services stand under
 * one label of their selector, pods under each of their labels.
 * @module
 */

type Labels = Readonly<Record<string, string>>;

/** Which services select a pod, and which pods a service selects, without looking at all of either. */
export class SelectorIndex {
  readonly #services = new Map<string, Set<string>>();
  readonly #selectors = new Map<string, { selector: Labels; key: string }>();
  readonly #pods = new Map<string, Set<string>>();
  readonly #labels = new Map<string, { namespace: string; labels: Labels }>();

  /** Puts a service's selector, or takes the service out when it has none. */
  setService(name: string, namespace: string, selector: Labels | undefined): void {
    const before = this.#selectors.get(name);
    if (before !== undefined) {
      drop(this.#services, before.key, name);
      this.#selectors.delete(name);
    }
    if (selector === undefined) return;
    // The label that the fewest services use: then a pod with a common label does not meet them all.
    const keys = Object.entries(selector).map((pair) => keyOf(namespace, pair));
    const key = keys.reduce((best, one) =>
      sizeOf(this.#services, one) < sizeOf(this.#services, best) ? one : best
    );
    this.#selectors.set(name, { selector, key });
    add(this.#services, key, name);
  }

  /** Puts a pod's labels, or (undefined) takes the pod out. */
  setPod(name: string, namespace: string, labels: Labels | undefined): void {
    const before = this.#labels.get(name);
    if (before !== undefined) {
      for (const pair of Object.entries(before.labels)) drop(this.#pods, keyOf(before.namespace, pair), name);
      this.#labels.delete(name);
    }
    if (labels === undefined) return;
    this.#labels.set(name, { namespace, labels });
    for (const pair of Object.entries(labels)) add(this.#pods, keyOf(namespace, pair), name);
  }

  /** Names of the services that select a pod with these labels. */
  servicesFor(namespace: string, labels: Labels): string[] {
    const found: string[] = [];
    for (const pair of Object.entries(labels)) {
      for (const name of this.#services.get(keyOf(namespace, pair)) ?? []) {
        if (matches(this.#selectors.get(name)!.selector, labels)) found.push(name);
      }
    }
    return found;
  }

  /** Names of the pods that a selector selects. */
  podsFor(namespace: string, selector: Labels): string[] {
    const keys = Object.entries(selector).map((pair) => keyOf(namespace, pair));
    const key = keys.reduce((best, one) => sizeOf(this.#pods, one) < sizeOf(this.#pods, best) ? one : best);
    return [...this.#pods.get(key) ?? []].filter((name) => matches(selector, this.#labels.get(name)!.labels));
  }
}

function matches(selector: Labels, labels: Labels): boolean {
  for (const key in selector) if (labels[key] !== selector[key]) return false;
  return true;
}

function keyOf(namespace: string, [key, value]: [string, string]): string {
  return `${namespace}\0${key}\0${value}`;
}

function sizeOf(index: Map<string, Set<string>>, key: string): number {
  return index.get(key)?.size ?? 0;
}

function add(index: Map<string, Set<string>>, key: string, name: string): void {
  const names = index.get(key);
  if (names) names.add(name);
  else index.set(key, new Set([name]));
}

function drop(index: Map<string, Set<string>>, key: string, name: string): void {
  const names = index.get(key);
  if (names?.delete(name) && names.size === 0) index.delete(key);
}
