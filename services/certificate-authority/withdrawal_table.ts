/**
 * Withdrawals: what this authority has signed away. Its members and tokens say the same, until the database is replaced by an older
 * copy; then who kept the withdrawals hands them back.
 *
 * @module
 */
import { type HandBackResponse, Member, Withdrawal } from "@weir/proto/certificate";
import {
  errorText,
  isGenuine,
  type Logger,
  mergeWithdrawals,
  parseCertificate,
  readWithdrawals,
  unixSeconds,
  type WatchedTable,
  withdrawalName,
  WITHDRAWALS_MAX,
} from "@weir/common";
import type { Store, StoreTransaction } from "@weir/common/state";
import type { Authority } from "./authority.ts";
import type { AuthorityParts } from "./config.ts";
import { isMember, MEMBERS } from "./member.ts";
import { TOKENS } from "./token_table.ts";

/** Name of the watched collection. */
export const WITHDRAWALS = "withdrawals";

/** A withdrawal before it is signed. */
export type UnsignedWithdrawal = Omit<Withdrawal, "signature">;

/** The table and what becomes of its rows. */
export class WithdrawalTable {
  readonly table: WatchedTable<Withdrawal>;
  readonly #store: Store;
  readonly #members: WatchedTable<Member>;
  readonly #parts: AuthorityParts & { log: Logger };

  constructor(store: Store, members: WatchedTable<Member>, parts: AuthorityParts & { log: Logger }) {
    this.#store = store;
    this.#members = members;
    this.#parts = parts;
    this.table = store.collection(WITHDRAWALS, Withdrawal, { entriesMax: WITHDRAWALS_MAX });
  }

  /** Signs and keeps one. A full table does not keep anybody in: what was withdrawn is so without it. */
  async add(tx: StoreTransaction, authority: Authority, what: UnsignedWithdrawal): Promise<void> {
    const withdrawal = await authority.withdraw(what), name = withdrawalName(withdrawal);
    if (this.table.get(name) === undefined && this.table.size >= WITHDRAWALS_MAX) {
      this.#parts.log.warn("A withdrawal is not kept: a database that is restored will not know it", {
        name,
      });
      return;
    }
    await tx.put(WITHDRAWALS, name, withdrawal);
  }

  /**
   * Takes those that this database does not know: it was restored from before them. What the authority has not signed is left.
   */
  async handBack(authority: Authority, items: readonly Withdrawal[]): Promise<HandBackResponse> {
    const { log, clock } = this.#parts;
    const own = { cluster: authority.cluster, authorities: [parseCertificate(authority.certificatePem)] };
    const fresh = mergeWithdrawals([items], unixSeconds(clock)).filter((one) =>
      !knows(this.table.get(withdrawalName(one)), one)
    );
    const genuine = fresh.filter((one) => isGenuine(one, own));
    const refused = fresh.length - genuine.length;
    if (refused > 0) log.warn("Withdrawals refused: this authority has not signed them", { refused });
    if (genuine.length === 0) return { taken: 0, refused };
    const taken = await this.#store.transact(async (tx) => {
      let count = 0;
      for (const one of genuine) {
        if (knows(await tx.get<Withdrawal>(WITHDRAWALS, withdrawalName(one)), one)) continue;
        await tx.put(WITHDRAWALS, withdrawalName(one), one);
        if (one.kind === "token") await tx.delete(TOKENS, one.name);
        else await tx.put(MEMBERS, one.name, withdrawnMember(await tx.get<Member>(MEMBERS, one.name), one));
        count++;
      }
      return count;
    });
    if (taken > 0) {
      log.warn("This database is older than what was removed from it: withdrawals were handed back", {
        taken,
      });
    }
    return { taken, refused };
  }

  /** Signs removals of a version that signed none. */
  async signOld(authority: Authority): Promise<void> {
    const nowS = unixSeconds(this.#parts.clock);
    const old = this.#members.list().filter((member) =>
      !isMember(member) && member.expiresUnixS > nowS && this.table.get(`member:${member.name}`) === undefined
    );
    if (old.length === 0) return;
    await this.#store.transact(async (tx) => {
      for (const member of old) await this.add(tx, authority, removalOf(member));
    });
  }

  /** Hands back what this machine's agent has kept. */
  async readKept(authority: Authority): Promise<void> {
    const { config: { withdrawalsFile }, log } = this.#parts;
    if (withdrawalsFile === "") return;
    let kept: Withdrawal[];
    try {
      kept = readWithdrawals(withdrawalsFile);
    } catch (error) {
      log.warn("Withdrawals that this machine has kept cannot be read", { error: errorText(error) });
      return;
    }
    await this.handBack(authority, kept);
  }

  /** Names of those that say nothing any more. */
  endedAt(nowS: number): string[] {
    return this.table.list().filter((one) => one.expiresUnixS < nowS).map(withdrawalName);
  }
}

/** What its removal says of a member. */
export function removalOf({ name, removedUnixS, expiresUnixS }: Member): UnsignedWithdrawal {
  return { kind: "member", name, withdrawnUnixS: removedUnixS, expiresUnixS };
}

function knows(known: Withdrawal | undefined, one: Withdrawal): boolean {
  return known !== undefined && known.withdrawnUnixS >= one.withdrawnUnixS;
}

/**
 * A member as it is after a removal that its database had forgotten. Who joined before the removal has renewed since then with what
 * was removed, so all of that goes; who joined after it, with a new token, stays.
 */
function withdrawnMember(
  before: Member | undefined,
  { name, withdrawnUnixS, expiresUnixS }: Withdrawal,
): Member {
  const member = before ?? Member.create({ name, role: "node" });
  const since = member.joinedUnixS <= withdrawnUnixS ? member.issuedUnixS : 0;
  return {
    ...member,
    removedUnixS: Math.max(member.removedUnixS, withdrawnUnixS, since),
    expiresUnixS: Math.max(member.expiresUnixS, expiresUnixS),
  };
}
