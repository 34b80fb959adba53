/**
 * The processes of a node's L7 proxy as one: the kernel gives any of them a connection, so what requests are judged by is in force when all of them have it.
 *
 *     put ─▶ every process, at once ─▶ all have taken it, or the error of one that has not
 *     get ◀─ what all show alike; what they do not is nobody's wish, and is given anew
 *
 * @module
 */
import type { Position } from "@weir/common";
import type { Message } from "@weir/proto";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import type { ChangeListener, L7Proxy, Mirror } from "./sources.ts";

/** Between the epochs of processes; none of an epoch's characters. */
const BETWEEN = "+";

/** One process stays as it is. @param processes at least one */
export function joinL7Proxies(processes: readonly L7Proxy[]): L7Proxy {
  if (processes.length === 1) return processes[0];
  const all = async <T>(call: (proxy: L7Proxy, at: number) => Promise<T>): Promise<T[]> => {
    const results = await Promise.allSettled(processes.map(call));
    for (const result of results) if (result.status === "rejected") throw result.reason;
    return results.map((result) => (result as PromiseFulfilledResult<T>).value);
  };
  return {
    policies: (listener) =>
      new JoinedMirror(ProxyPolicy, listener, processes.map((one) => one.policies.bind(one))),
    endpoints: (listener) =>
      new JoinedMirror(ProxyEndpoint, listener, processes.map((one) => one.endpoints.bind(one))),
    async putPolicy(policy) {
      const meant = policy.process?.split(BETWEEN) ?? [];
      const taken = await all((proxy, at) => proxy.putPolicy({ ...policy, process: meant[at] ?? "" }));
      return taken.find(({ status }) => status?.error) ?? taken[0];
    },
    deletePolicy: async (name) => void await all((proxy) => proxy.deletePolicy(name)),
    putEndpoint: async (endpoint) => void await all((proxy) => proxy.putEndpoint(endpoint)),
    deleteEndpoint: async (name) => void await all((proxy) => proxy.deleteEndpoint(name)),
  };
}

/** What one of them has, as {@link JoinedMirror} reads it. */
type Named = { name: string; status?: unknown };

/** The same collection of each process. */
class JoinedMirror<T extends Named> implements Mirror<T> {
  readonly #message: Message<T>;
  readonly #mirrors: Mirror<T>[] = [];
  readonly #count: number;

  constructor(
    message: Message<T>,
    listener: ChangeListener<T>,
    open: readonly ((listener: ChangeListener<T>) => Mirror<T>)[],
  ) {
    this.#message = message;
    this.#count = open.length;
    for (const one of open) {
      this.#mirrors.push(one({
        onChange: (name, _value, previous, lost) => listener.onChange(name, this.get(name), previous, lost),
        onSynced: () => this.synced && listener.onSynced(),
        onPosition: () => this.position && listener.onPosition?.(this.position),
      }));
    }
  }

  get synced(): boolean {
    return this.#mirrors.length === this.#count && this.#mirrors.every(({ synced }) => synced);
  }
  get error(): Error | undefined {
    return this.#mirrors.find(({ error }) => error !== undefined)?.error;
  }
  get lastHeardMs(): number {
    return Math.min(...this.#mirrors.map(({ lastHeardMs }) => lastHeardMs));
  }
  /** Of all; another process in the place of any is another epoch. */
  get position(): Position | undefined {
    const positions = this.#mirrors.map(({ position }) => position).filter((one) => one !== undefined);
    if (positions.length < this.#count) return undefined;
    return {
      epoch: positions.map(({ epoch }) => epoch).join(BETWEEN),
      revision: positions.reduce((sum, { revision }) => sum + revision, 0),
    };
  }

  /** What any has, once by name. */
  values(): Iterable<T> {
    const byName = new Map<string, T>();
    for (const mirror of this.#mirrors) for (const value of mirror.values()) byName.set(value.name, value);
    return byName.values();
  }

  /** What all have alike; where they differ, one without a name: something is there, and it is what nobody wants. */
  get(name: string): T | undefined {
    const found = this.#mirrors.map((mirror) => mirror.get(name));
    const some = found.find((value) => value !== undefined);
    if (some === undefined) return undefined;
    const isAlike = found.length === this.#count &&
      found.every((value) =>
        value !== undefined && (value === some || this.#bytes(value) === this.#bytes(some))
      );
    return isAlike ? some : { ...some, name: "" };
  }

  [Symbol.dispose](): void {
    for (const mirror of this.#mirrors) mirror[Symbol.dispose]();
  }

  #bytes(value: T): string {
    return this.#message.encode({ ...value, status: undefined } as never).toBase64();
  }
}
