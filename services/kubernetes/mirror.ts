/**
 * Makes a service hold what Kubernetes has, and nothing else of what came from there.
 *
 *     Kubernetes' copy ── what there should be ─┐
 *                                               ├─▶ names that differ, in the order in which they did ─▶ writes, in batches
 *     the service's own list ── what there is ──┘
 *
 * Nothing is remembered: a restart compares both sides again. An object that bears no mark of ours is never changed or deleted;
 * one of ours goes only when its kind was listed completely. What the service refuses is a fault of that object, and the others
 * go on.
 * @module
 */
import { Backoff, type Clock, type Logger, ProblemError, toProblem } from "@weir/common";

/** An object as the service should hold it. */
export interface WantedObject {
  readonly kind: string;
  /** In Kubernetes: "NAMESPACE/NAME" or "NAME". */
  readonly key: string;
  readonly uid: string;
  readonly generation: number;
  /** What is handed over: JSON. */
  readonly text: string;
  /** Digest of `text`. */
  readonly digest: string;
}

/** What the service holds of a name. */
export interface HeldObject {
  /** Kind in Kubernetes; "" of what bears no mark of ours. */
  readonly kind: string;
  readonly digest: string;
}

/** The service. */
export interface MirrorTarget {
  /** For messages and metrics: "policy-engine". */
  readonly name: string;
  /** True when everything that it holds is known. */
  readonly synced: boolean;
  get(name: string): HeldObject | undefined;
  names(): Iterable<string>;
  /** Writes all or none. @throws {ProblemError} */
  put(objects: readonly (WantedObject & { name: string })[]): Promise<void>;
  /** Deletes all or none; what is not there is no error. @throws {ProblemError} */
  delete(objects: readonly { name: string; kind: string }[]): Promise<void>;
  /** Objects of one write. */
  readonly batchMax: number;
}

/** Why an object is not as it should be. */
export interface MirrorFault {
  readonly wanted: WantedObject;
  readonly error: ProblemError;
  readonly sinceMs: number;
  readonly attempts: number;
}

/** Options of {@link Mirror}. */
export interface MirrorOptions {
  target: MirrorTarget;
  clock: Clock;
  log: Logger;
  /** When an object got a fault, or lost it (undefined). */
  onFault?: (object: WantedObject, fault: MirrorFault | undefined) => void;
}

/** What was refused is tried again after so long: the service may have learned it meanwhile. */
const REFUSED_MS = 30_000;

const NAME_TAKEN = "NAME_TAKEN";
/**
 * What somebody else changed at the service is looked at after so long: another replica of this one may have heard of a
 * change earlier, which is on its way here too, and must not be undone meanwhile.
 */
const SETTLE_MS = 2000;

/** See the module. Begins with `start()`, ends with `stop()`. */
export class Mirror {
  readonly #options: MirrorOptions;
  readonly #wanted = new Map<string, WantedObject>();
  readonly #later = new Set<string>();
  readonly #unread = new Set<string>();
  readonly #complete = new Set<string>();
  #dirty = new Set<string>();
  readonly #faults = new Map<string, MirrorFault>();
  readonly #stop = new AbortController();
  #wake: (() => void) | undefined;
  #running: Promise<unknown> | undefined;
  #error: ProblemError | undefined;
  #isWriting = false;
  #written = 0;

  constructor(options: MirrorOptions) {
    this.#options = options;
  }

  /** Names that may differ. */
  get waiting(): number {
    return this.#dirty.size;
  }
  /** The service holds all that there should be, what it refused apart. */
  get isHandedOn(): boolean {
    return this.#options.target.synced && !this.#isWriting && this.#dirty.size === 0 &&
      this.#error === undefined;
  }
  /** Objects that nobody could read. */
  get unreadable(): number {
    return this.#unread.size;
  }
  /** Objects that the service took or let go of. */
  get written(): number {
    return this.#written;
  }
  /** What keeps the service from taking anything. */
  get error(): ProblemError | undefined {
    return this.#error;
  }
  get faults(): ReadonlyMap<string, MirrorFault> {
    return this.#faults;
  }

  /** What there should be of a name: undefined: nothing. */
  want(name: string, wanted: WantedObject | undefined): void {
    if (wanted === undefined) this.#wanted.delete(name);
    else this.#wanted.set(name, wanted);
    this.#differs(name);
  }

  /** There is something of this name that nobody could read: what the service has of it stays until somebody can. */
  unread(name: string, isUnread: boolean): void {
    if (isUnread) this.#unread.add(name);
    else if (this.#unread.delete(name)) this.#differs(name);
  }

  /** The service has changed what it holds of a name, or somebody has there. */
  heldChanged(name: string): void {
    this.#later.add(name);
    if (this.#later.size > 1) return;
    void this.#options.clock.sleep(SETTLE_MS, this.#stop.signal).then(() => {
      for (const one of this.#later) this.#dirty.add(one);
      this.#later.clear();
      this.#wake?.();
    });
  }

  /** Everything that there should be of this kind is wanted: what the service has beyond that goes. */
  complete(kind: string): void {
    this.#complete.add(kind);
    this.compareAll();
  }

  /** Compares every name. */
  compareAll(): void {
    for (const name of this.#options.target.names()) this.#dirty.add(name);
    for (const name of this.#wanted.keys()) this.#dirty.add(name);
    this.#wake?.();
  }

  start(): this {
    this.#running ??= Promise.all([this.#run(), this.#askAgain()]);
    return this;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop, { target, clock, log } = this.#options;
    const backoff = new Backoff({ delayMsMin: 100, delayMsMax: 10_000 });
    while (!signal.aborted) {
      if (this.#dirty.size === 0 || !target.synced) {
        await new Promise<void>((resolve) => this.#wake = resolve);
        this.#wake = undefined;
        continue;
      }
      const batch = this.#next();
      this.#isWriting = true;
      try {
        await this.#write(batch);
        this.#error = undefined;
        backoff.reset();
      } catch (error) {
        // Nobody knows what became of them. They keep their place.
        this.#dirty = new Set([...batch, ...this.#dirty]);
        this.#error = toProblem(error);
        this.#isWriting = false;
        if (backoff.attempts === 0) log.warn("Cannot hand on objects", { to: target.name, error });
        await clock.sleep(backoff.nextMs(), signal);
      }
      this.#isWriting = false;
    }
  }

  /** What was refused is tried again now and then. */
  async #askAgain(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#options.clock.sleep(REFUSED_MS, signal);
      for (const [name, fault] of [...this.#faults]) {
        this.#faults.set(name, { ...fault, wanted: { ...fault.wanted, digest: "" } });
        this.#differs(name);
      }
    }
  }

  #differs(name: string): void {
    this.#dirty.add(name);
    this.#wake?.();
  }

  #next(): string[] {
    const batch: string[] = [];
    for (const name of this.#dirty) {
      batch.push(name);
      if (batch.length >= this.#options.target.batchMax) break;
    }
    for (const name of batch) this.#dirty.delete(name);
    return batch;
  }

  async #write(names: readonly string[]): Promise<void> {
    const { target } = this.#options;
    const puts: (WantedObject & { name: string })[] = [], deletes: { name: string; kind: string }[] = [];
    for (const name of names) {
      const wanted = this.#wanted.get(name), held = target.get(name);
      if (wanted === undefined) {
        this.#clear(name);
        const isOurs = held !== undefined && held.kind !== "" && this.#complete.has(held.kind);
        if (isOurs && !this.#unread.has(name)) deletes.push({ name, kind: held.kind });
      } else if (held?.kind === "") {
        this.#fault(name, wanted, takenByOthers(name, wanted));
      } else if (held?.digest === wanted.digest) {
        this.#clear(name);
      } else if (!this.#isRefused(name, wanted)) {
        puts.push({ ...wanted, name });
      }
    }
    // What goes may have what comes is to get: a node port, an address.
    if (deletes.length > 0) {
      await target.delete(deletes);
      this.#written += deletes.length;
    }
    await this.#put(puts);
  }

  async #put(objects: readonly (WantedObject & { name: string })[]): Promise<void> {
    if (objects.length === 0) return;
    try {
      await this.#options.target.put(objects);
      this.#written += objects.length;
      for (const { name } of objects) this.#clear(name);
    } catch (error) {
      const problem = toProblem(error);
      if (!isRefusal(problem)) throw problem;
      if (objects.length === 1) return this.#fault(objects[0].name, objects[0], problem);
      // One is wrong, and all were refused: halves find it.
      const half = Math.ceil(objects.length / 2);
      await this.#put(objects.slice(0, half));
      await this.#put(objects.slice(half));
    }
  }

  /** Whether the service has refused just this. Who was in the way may be gone. */
  #isRefused(name: string, { digest }: WantedObject): boolean {
    const fault = this.#faults.get(name);
    return fault?.wanted.digest === digest && fault.error.code !== NAME_TAKEN;
  }

  #fault(name: string, wanted: WantedObject, error: ProblemError): void {
    const before = this.#faults.get(name);
    const isSame = before?.error.message === error.message;
    const fault: MirrorFault = {
      wanted,
      error,
      sinceMs: isSame ? before!.sinceMs : this.#options.clock.nowMs(),
      attempts: (before?.attempts ?? 0) + 1,
    };
    this.#faults.set(name, fault);
    if (!isSame) {
      this.#options.log.warn("An object is refused", { to: this.#options.target.name, name, error });
    }
    this.#options.onFault?.(wanted, fault);
  }

  #clear(name: string): void {
    const before = this.#faults.get(name);
    if (before === undefined) return;
    this.#faults.delete(name);
    this.#options.onFault?.(before.wanted, undefined);
  }
}

/** Whether the service has judged the object itself: others may be taken all the same. */
function isRefusal({ status, code }: ProblemError): boolean {
  return status >= 400 && status < 500 && status !== 401 && status !== 403 && status !== 404 &&
    status !== 429 &&
    code !== "HTTP_ERROR";
}

function takenByOthers(name: string, { kind, key }: WantedObject): ProblemError {
  return new ProblemError(NAME_TAKEN, {
    status: 409,
    detail: `Cannot take ${kind} ${key}: ${name} was applied by somebody else than Kubernetes`,
    found: name,
    action: `Delete the other one (weir policy delete, weir service delete), or give this one another name`,
  });
}
