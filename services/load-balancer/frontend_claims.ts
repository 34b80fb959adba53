/**
 * Who may have which address, port and protocol. Several services may ask for one: the oldest has it, the others wait
 * and are told whom for.
 * @module
 */

/** Who asks. */
export interface Claimant {
  /** Name of the service. */
  readonly owner: string;
  /** Age decides; of equals the name. */
  readonly createdUnixS: number;
}

/** What is asked for. */
export interface Claim {
  /** "" for every address of a node, "NODE/ADDRESS" for a host port. */
  readonly address: string;
  readonly port: number;
  readonly protocol: string;
  /** Whether the other ports of the address are to be closed. */
  readonly closes: boolean;
}

/** Who may have which address, port and protocol. */
export class FrontendClaims {
  readonly #claims = new Map<string, Claimant[]>();
  /** Claims of an address whose other ports are closed: the first of them says so. */
  readonly #closing = new Map<string, { claimant: Claimant; key: string }[]>();
  readonly #byOwner = new Map<string, { claimant: Claimant; claims: readonly Claim[] }>();

  /**
   * Makes `claims` all that the owner asks for. Answers the names of the other services for which something changed:
   * who gets a frontend, loses one, or waits for another one now.
   */
  set(claimant: Claimant, claims: readonly Claim[]): Set<string> {
    const { owner } = claimant;
    const before = this.#byOwner.get(owner);
    const affected = new Set<string>();
    const keys = new Set(claims.map(keyOf));
    const held = new Set(before?.claims.map(keyOf) ?? []);
    for (const claim of before?.claims ?? []) if (!keys.has(keyOf(claim))) this.#drop(owner, claim, affected);
    for (const claim of claims) if (!held.has(keyOf(claim))) this.#add(claimant, claim, affected);
    if (claims.length === 0) this.#byOwner.delete(owner);
    else this.#byOwner.set(owner, { claimant, claims });
    affected.delete(owner);
    return affected;
  }

  /** Who has it; undefined when nobody asks. */
  holder(claim: Claim): Claimant | undefined {
    return this.#claims.get(keyOf(claim))?.[0];
  }

  /** Whether this claim is the one of its address that says that other ports are closed. */
  isClosing(claim: Claim): boolean {
    return claim.closes && this.#closing.get(claim.address)?.[0].key === keyOf(claim);
  }

  #add(claimant: Claimant, claim: Claim, affected: Set<string>): void {
    const key = keyOf(claim);
    const list = this.#claims.get(key) ?? [];
    this.#claims.set(key, list);
    list.push(claimant);
    list.sort(inOrder);
    for (const other of list) affected.add(other.owner);
    if (!claim.closes) return;
    const closing = this.#closing.get(claim.address) ?? [];
    this.#closing.set(claim.address, closing);
    const first = closing[0];
    closing.push({ claimant, key });
    closing.sort((a, b) => inOrder(a.claimant, b.claimant) || (a.key < b.key ? -1 : 1));
    if (first !== undefined && first !== closing[0]) affected.add(first.claimant.owner);
  }

  #drop(owner: string, claim: Claim, affected: Set<string>): void {
    const key = keyOf(claim);
    const list = (this.#claims.get(key) ?? []).filter((one) => one.owner !== owner);
    for (const other of list) affected.add(other.owner);
    if (list.length === 0) this.#claims.delete(key);
    else this.#claims.set(key, list);
    if (!claim.closes) return;
    const closing = (this.#closing.get(claim.address) ?? [])
      .filter((one) => one.key !== key || one.claimant.owner !== owner);
    if (closing.length === 0) this.#closing.delete(claim.address);
    else {
      this.#closing.set(claim.address, closing);
      affected.add(closing[0].claimant.owner);
    }
  }
}

function keyOf({ address, port, protocol }: Claim): string {
  return `${address}|${port}/${protocol}`;
}

function inOrder(a: Claimant, b: Claimant): number {
  return a.createdUnixS - b.createdUnixS || (a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : 0);
}
