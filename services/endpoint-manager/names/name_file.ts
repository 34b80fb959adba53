/**
 * Names on disk: a file to which lines are added, written anew when most of it is old. A line is there before anything that
 * follows from it. It need not outlive a crash of the machine, whose kernel forgets everything too.
 *
 *     {"weir-names":1}
 *     {"name":"www.example.com","endpoint":7,"untilMs":1760000000000,"addresses":["192.0.2.1"]}
 *     {"selector":"matchName:www.example.com","identity":16777300}
 *     {"fqdn":33554433,"base":["10.0.0.0/8",16777217],"selectors":[[16777300,"matchName:www.example.com"]]}
 *
 * @module
 */
import { IpAddress, isFqdnIdentity, isLocalIdentity, Prefix } from "@weir/common";
import type { PrefixPair } from "../prefix_pairs.ts";
import { storeFailed, writeStateFile } from "../state_file.ts";
import type { NameSelector } from "./fqdn_identities.ts";
import { queryOf } from "./name_selectors.ts";

/** What an endpoint has heard of a name. */
export interface KeptName {
  readonly endpoint: number;
  readonly query: string;
  readonly addresses: readonly string[];
  /** Wall clock, milliseconds. */
  readonly untilMs: number;
}
/** An identity that this node gave. */
export interface KeptIdentity {
  readonly identity: number;
  readonly base: PrefixPair;
  readonly selectors: readonly NameSelector[];
}
/** One line. */
export type NameRecord =
  | { readonly name: KeptName }
  | { readonly selector: NameSelector }
  | { readonly identity: KeptIdentity };

/** Where names are kept. */
export interface NameStore {
  /** Bytes that are there. */
  readonly bytes: number;
  /** What was kept, oldest first; `broken`: where what could not be read was set aside. */
  load(): Promise<{ records: NameRecord[]; broken: string }>;
  /** @throws {ProblemError} ENDPOINT_STORE_FAILED: nothing was added */
  add(records: readonly NameRecord[]): Promise<void>;
  /** In place of everything. @throws {ProblemError} ENDPOINT_STORE_FAILED: what was there is still there */
  replace(records: Iterable<NameRecord>): Promise<void>;
}

/** Keeps nothing. */
export const NO_NAMES_KEPT: NameStore = {
  bytes: 0,
  load: () => Promise.resolve({ records: [], broken: "" }),
  add: () => Promise.resolve(),
  replace: () => Promise.resolve(),
};

const HEAD = `{"weir-names":1}`;

/** Names as a file. */
export class NameFile implements NameStore {
  readonly #path: string;
  /** Up to where the file is whole; undefined: it is not there. */
  #end: number | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  get bytes(): number {
    return this.#end ?? 0;
  }

  async load(): Promise<{ records: NameRecord[]; broken: string }> {
    let text: string;
    try {
      text = await Deno.readTextFile(this.#path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return { records: [], broken: "" };
      return { records: [], broken: await this.#setAside() };
    }
    const lines = text.split("\n"), records: NameRecord[] = [];
    if (lines[0] !== HEAD) return { records: [], broken: await this.#setAside() };
    // What is behind the last end of a line was never acknowledged.
    for (const line of lines.slice(1, -1)) {
      const record = readRecord(line);
      if (record === undefined) return { records, broken: await this.#setAside() };
      records.push(record);
    }
    this.#end = new TextEncoder().encode(text.slice(0, text.lastIndexOf("\n") + 1)).length;
    return { records, broken: "" };
  }

  add(records: readonly NameRecord[]): Promise<void> {
    return this.#inTurn(async () => {
      const bytes = new TextEncoder().encode(
        (this.#end === undefined ? HEAD + "\n" : "") +
          records.map((record) => writeRecord(record) + "\n").join(""),
      );
      const end = this.#end ?? 0;
      try {
        using file = await Deno.open(this.#path, { write: true, create: true, mode: 0o640 });
        // Half a line of an addition that failed goes.
        await file.truncate(end);
        await file.seek(end, Deno.SeekMode.Start);
        for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      } catch (cause) {
        throw storeFailed("write", this.#path, cause);
      }
      this.#end = end + bytes.length;
    });
  }

  replace(records: Iterable<NameRecord>): Promise<void> {
    return this.#inTurn(async () => {
      const text = [HEAD, ...Array.from(records, writeRecord), ""].join("\n");
      await writeStateFile(this.#path, text);
      this.#end = new TextEncoder().encode(text).length;
    });
  }

  /** One after the other: whoever comes later sees what was written. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  async #setAside(): Promise<string> {
    const aside = `${this.#path}.broken`;
    await Deno.rename(this.#path, aside).catch(() => {});
    this.#end = undefined;
    return aside;
  }
}

function writeRecord(record: NameRecord): string {
  if ("name" in record) {
    const { query, endpoint, untilMs, addresses } = record.name;
    return JSON.stringify({ name: query, endpoint, untilMs, addresses });
  }
  if ("selector" in record) {
    return JSON.stringify({ selector: record.selector.name, identity: record.selector.identity });
  }
  const { identity, base, selectors } = record.identity;
  return JSON.stringify({
    fqdn: identity,
    base: [base.prefix.text, base.identity],
    selectors: selectors.map((selector) => [selector.identity, selector.name]),
  });
}

/** Undefined: the line is none. */
function readRecord(line: string): NameRecord | undefined {
  try {
    const { name, endpoint, untilMs, addresses, selector, identity, fqdn, base, selectors } = JSON.parse(
      line,
    );
    if (typeof name === "string") {
      const query = queryOf(name);
      if (query !== name || !Number.isInteger(endpoint) || !Number.isFinite(untilMs)) return undefined;
      if (!addresses.every((text: string) => IpAddress.tryParse(text)?.text === text)) return undefined;
      return { name: { query, endpoint, untilMs, addresses } };
    }
    if (typeof selector === "string") return { selector: readSelector([identity, selector]) };
    if (!isFqdnIdentity(fqdn) || !Number.isInteger(base[1]) || selectors.length === 0) return undefined;
    const pair = { prefix: Prefix.parse(base[0]), identity: base[1] };
    return { identity: { identity: fqdn, base: pair, selectors: selectors.map(readSelector) } };
  } catch {
    return undefined;
  }
}

function readSelector([identity, name]: [unknown, unknown]): NameSelector {
  if (typeof identity !== "number" || !isLocalIdentity(identity) || typeof name !== "string") {
    throw new TypeError("no selector");
  }
  return { identity, name };
}
