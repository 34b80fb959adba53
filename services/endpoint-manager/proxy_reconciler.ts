/**
 * What this node's L7 proxy judges by: the policies that have rule sets, and the endpoints that have such a policy. It hears of them before
 * the datapath does, for from then on connections come to it, and whom it does not know it closes.
 *
 *     policy ─▶ proxy has it? ─▶ datapath           no: the datapath keeps what it has, and the endpoint says why
 *
 * What the proxy has is what it shows, not what it was told: one that comes back empty or older is told again.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import type { Init, Message } from "@weir/proto";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import type { Peer } from "./peer.ts";
import type { L7Proxy, Mirror } from "./sources.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

const POLICY = "policy ", ENDPOINT = "endpoint ", UNUSED = "what nothing uses";

/** What {@link ProxyReconciler} is made of. */
export interface ProxyReconcilerParts {
  /** Undefined: this node has none, and no policy with rule sets can be put in force on it. */
  proxy: L7Proxy | undefined;
  peer: Peer | undefined;
  clock: Clock;
  /** Whether it is known who uses what: before, nothing is taken from the proxy. */
  maySweep: () => boolean;
  /** The proxy has something that it lacked: whoever waits for it may go on. */
  onThere: () => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Tells the proxy, and knows what it has. */
export class ProxyReconciler implements Disposable {
  readonly #parts: ProxyReconcilerParts;
  readonly #queue: WorkQueue;
  #policies: Side<ProxyPolicy> | undefined;
  #endpoints: Side<ProxyEndpoint> | undefined;

  constructor(parts: ProxyReconcilerParts) {
    this.#parts = parts;
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: (key) => this.#work(key),
      onResult: (key, failure) => {
        if (!failure && key !== UNUSED) parts.onThere();
        parts.onResult(`l7-proxy ${key}`, failure);
      },
    });
  }

  /** Begins to follow what the proxy has. */
  start(): void {
    const { proxy, peer } = this.#parts;
    if (proxy === undefined || peer === undefined) return;
    this.#policies = new Side(ProxyPolicy, (name) => this.#queue.add(POLICY + name));
    this.#policies.mirror = peer.follow(proxy.policies(this.#policies));
    this.#endpoints = new Side(ProxyEndpoint, (name) => this.#queue.add(ENDPOINT + name));
    this.#endpoints.mirror = peer.follow(proxy.endpoints(this.#endpoints));
  }

  /** Whether the proxy is to have a policy: it has rule sets, or had, and open connections are judged by the newest. */
  concerns(policy: Init<ProxyPolicy>): boolean {
    const name = policy.name!;
    return (policy.ruleSets?.length ?? 0) > 0 || this.#policies?.wanted.has(name) === true ||
      this.#policies?.mirror?.get(name) !== undefined;
  }

  /** The proxy has the policy when this ends. @throws {ProblemError} L7_PROXY_LACKS_POLICY: it has not */
  async givePolicy(policy: Init<ProxyPolicy>): Promise<void> {
    await this.#give(this.#policies, POLICY, policy.name!, policy);
  }

  /** The proxy has the endpoint when this ends. @throws {ProblemError} L7_PROXY_LACKS_POLICY: it has not */
  async giveEndpoint(endpoint: Init<ProxyEndpoint>): Promise<void> {
    await this.#give(this.#endpoints, ENDPOINT, endpoint.name!, endpoint);
  }

  /** Takes from the proxy what none of these uses, as soon as that is known. */
  keepOnly(policies: ReadonlySet<string>, endpoints: ReadonlySet<string>): void {
    if (this.#policies === undefined || this.#endpoints === undefined) return;
    this.#policies.used = policies;
    this.#endpoints.used = endpoints;
    if (this.#policies.unused().length + this.#endpoints.unused().length > 0) this.#queue.suggest(UNUSED);
  }

  get isIdle(): boolean {
    return this.#queue.isIdle;
  }
  async idle(): Promise<void> {
    await this.#queue.idle();
  }
  async stop(): Promise<void> {
    await this.#queue.stop();
  }
  [Symbol.dispose](): void {
    this.#policies?.mirror?.[Symbol.dispose]();
    this.#endpoints?.mirror?.[Symbol.dispose]();
  }

  async #give<T>(side: Side<T> | undefined, kind: string, name: string, value: Init<T>): Promise<void> {
    if (side === undefined) throw lacks(kind + name, "this node runs no L7 proxy");
    side.wanted.set(name, value);
    if (side.isThere(name)) return;
    // One that was asked in vain is asked again by the queue, and holds up nobody else meanwhile.
    const failed = this.#queue.failureOf(kind + name);
    if (failed) throw lacks(kind + name, failed.error.message);
    try {
      await this.#work(kind + name);
    } catch (error) {
      this.#queue.add(kind + name);
      throw lacks(kind + name, (error as Error).message);
    }
  }

  async #work(key: string): Promise<void> {
    const { proxy, peer } = this.#parts, policies = this.#policies, endpoints = this.#endpoints;
    if (proxy === undefined || peer === undefined || policies === undefined || endpoints === undefined) {
      return;
    }
    if (key === UNUSED) return await this.#sweep(proxy, peer, policies, endpoints);
    if (key.startsWith(POLICY)) {
      const name = key.slice(POLICY.length), wanted = policies.wanted.get(name);
      if (wanted === undefined || policies.isThere(name)) return;
      const process = policies.process;
      const { status } = await peer.call(
        `give policy ${name}`,
        () => proxy.putPolicy({ ...wanted, process }),
      );
      if (status?.error) throw new Error(status.error.error);
      policies.told(name, wanted, process);
      return;
    }
    const name = key.slice(ENDPOINT.length), wanted = endpoints.wanted.get(name);
    if (wanted === undefined || endpoints.isThere(name)) return;
    const process = endpoints.process;
    await peer.call(`give endpoint ${name}`, () => proxy.putEndpoint(wanted));
    endpoints.told(name, wanted, process);
  }

  async #sweep(
    proxy: L7Proxy,
    peer: Peer,
    policies: Side<ProxyPolicy>,
    endpoints: Side<ProxyEndpoint>,
  ): Promise<void> {
    if (!this.#parts.maySweep()) return;
    // Endpoints first: one without its policy would be closed, and it is gone.
    for (const name of endpoints.unused()) {
      endpoints.forget(name);
      await peer.call(`remove endpoint ${name}`, () => proxy.deleteEndpoint(name));
    }
    for (const name of policies.unused()) {
      policies.forget(name);
      await peer.call(`remove policy ${name}`, () => proxy.deletePolicy(name));
    }
  }
}

function lacks(what: string, why: string): ProblemError {
  return new ProblemError("L7_PROXY_LACKS_POLICY", {
    status: 503,
    detail: `Cannot apply ${what}: its L7 rules are not in force at the L7 proxy: ${why}`,
    found: why,
    expected: "a proxy that has the rules before connections come to it",
    action: "See how it is: weir status; weir agent without --no-l7-proxy runs one",
  });
}

/** One collection of the proxy: what it is to have, and what it shows. */
class Side<T> {
  readonly wanted = new Map<string, Init<T>>();
  used: ReadonlySet<string> | undefined;
  mirror: Mirror<T> | undefined;
  readonly #message: Message<T>;
  readonly #onDifferent: (name: string) => void;
  /** What the process that runs now has taken and may not have shown yet. */
  readonly #told = new Map<string, { value: Init<T>; process: string | undefined }>();

  constructor(message: Message<T>, onDifferent: (name: string) => void) {
    this.#message = message;
    this.#onDifferent = onDifferent;
  }

  onChange(name: string): void {
    const wanted = this.wanted.get(name);
    if (wanted === undefined || this.#isShown(name, wanted)) return;
    // An answer that came before its event looks like this too: it is written once more.
    this.#told.delete(name);
    this.#onDifferent(name);
  }
  onSynced(): void {
    for (const name of this.wanted.keys()) this.onChange(name);
  }
  onPosition(): void {
    for (const [name, { process }] of this.#told) if (process !== this.process) this.#told.delete(name);
    for (const name of this.wanted.keys()) if (!this.isThere(name)) this.#onDifferent(name);
  }

  /** Epoch of the process that runs now; undefined before it was heard. */
  get process(): string | undefined {
    return this.mirror?.position?.epoch;
  }

  told(name: string, value: Init<T>, process: string | undefined): void {
    this.#told.set(name, { value, process });
  }

  isThere(name: string): boolean {
    const wanted = this.wanted.get(name);
    if (wanted === undefined) return false;
    const told = this.#told.get(name);
    return (told !== undefined && told.value === wanted) || this.#isShown(name, wanted);
  }

  unused(): string[] {
    const { used } = this;
    if (used === undefined) return [];
    const shown = Array.from(this.mirror?.values() ?? [], (value) => (value as { name: string }).name);
    return [...new Set([...this.wanted.keys(), ...shown])].filter((name) => !used.has(name));
  }

  forget(name: string): void {
    this.wanted.delete(name);
    this.#told.delete(name);
  }

  #isShown(name: string, wanted: Init<T>): boolean {
    const shown = this.mirror?.get(name);
    return shown !== undefined && this.#bytes(shown as Init<T>) === this.#bytes(wanted);
  }

  /** Without what the proxy adds, or is addressed by. */
  #bytes(value: Init<T>): string {
    return this.#message.encode({ ...value, status: undefined, process: "" } as Init<T>).toBase64();
  }
}
