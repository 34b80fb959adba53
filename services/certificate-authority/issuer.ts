/**
 * Signs certificates and writes down for whom: a machine's, the one beside it that reads, a person's. Who may have which was decided
 * before.
 *
 * @module
 */
import {
  CreateTokenRequest,
  type IssueRequest,
  type IssueResponse,
  type Member,
  type Token,
  type Withdrawal,
} from "@weir/proto/certificate";
import {
  assertNotRemoved,
  invalidArgument,
  type Logger,
  OBSERVER_NAME,
  parseHostPort,
  type Peer,
  ProblemError,
  unixSeconds,
  type WatchedTable,
} from "@weir/common";
import type { Store } from "@weir/common/state";
import type { Authority } from "./authority.ts";
import type { AuthorityParts } from "./config.ts";
import { isMember, MEMBERS, MEMBERS_MAX } from "./member.ts";
import { assertFor, checkJoinSecret, makeToken, spend, TOKENS, TOKENS_MAX } from "./token_table.ts";
import type { WithdrawalTable } from "./withdrawal_table.ts";

const ADDRESSES_MAX = 8;

/** What certificates are issued from and written to. */
export interface IssuerParts extends AuthorityParts {
  readonly store: Store;
  readonly members: WatchedTable<Member>;
  readonly tokens: WatchedTable<Token>;
  readonly withdrawals: WithdrawalTable;
  readonly log: Logger;
}

/** Issues certificates. */
export class Issuer {
  readonly #parts: IssuerParts;

  constructor(parts: IssuerParts) {
    this.#parts = parts;
  }

  /** A certificate of a machine, by a join token's secret, or by a role that the caller has made sure of. */
  async sign(
    authority: Authority,
    request: IssueRequest,
    by: { secret?: string; role?: string; force?: boolean; renews?: { issuedUnixMs: number } },
  ): Promise<IssueResponse> {
    const { clock, config } = this.#parts;
    return await this.#parts.store.transact(async (tx) => {
      const token = by.role === undefined
        ? await checkJoinSecret(tx, this.#parts, by.secret ?? "")
        : undefined;
      assertFor(token, request.node);
      const before = await tx.get<Member>(MEMBERS, request.node);
      // Another replica may have removed it a moment ago: what is issued now would be later than that, and undo it.
      if (by.renews !== undefined) {
        assertNotRemoved(request.node, by.renews.issuedUnixMs, (before?.removedUnixS ?? 0) * 1000);
      }
      const role = by.role ?? token!.role;
      const addresses = role === "control-plane"
        ? addressesOf(
          request.addresses.length > 0 || !by.renews ? request.addresses : before?.addresses ?? [],
        )
        : [];
      const nowMs = this.#laterThan(before);
      const issued = await authority.issue(request.requestPem, {
        peer: { role: role as Peer["role"], node: request.node },
        hosts: [...new Set(addresses.map((address) => parseHostPort(address)!.hostname))],
        nowMs,
        lifetimeMs: config.certificateLifetimeMs,
      });
      // A machine that did not hear the answer asks again with the same key.
      const again = before !== undefined && isMember(before) && before.role === role &&
        sameBytes(before.keyHash, issued.keyHash);
      if (!by.force && !again) {
        // Whoever made a token for this machine alone knows that it is the one: it may have lost what it had.
        const isExpected = token?.node === request.node && before?.role === "node";
        const isTaken = before !== undefined && isMember(before) &&
          before.expiresUnixS * 1000 > clock.nowMs();
        if (isTaken && !isExpected) {
          throw new ProblemError("NAME_TAKEN", {
            status: 409,
            detail: `Cannot join as ${request.node}: a machine of this name is a member`,
            found: `joined ${new Date(before.joinedUnixS * 1000).toISOString()}`,
            action:
              `Take another name (weir join TOKEN --node-name NAME), or remove it first: weir cluster remove ${request.node}`,
          });
        }
        if (before === undefined && this.#parts.members.size >= MEMBERS_MAX) {
          throw full("members", MEMBERS_MAX);
        }
        await spend(tx, token!);
        if (token!.usesLeft === 1) await this.#parts.withdrawals.add(tx, authority, this.endOf(token!));
      }
      const joined = before !== undefined && isMember(before) ? before.joinedUnixS : nowMs / 1000;
      await tx.put(MEMBERS, request.node, {
        name: request.node,
        role,
        addresses,
        joinedUnixS: joined,
        issuedUnixS: nowMs / 1000,
        expiresUnixS: issued.notAfterUnixMs / 1000,
        removedUnixS: before?.removedUnixS ?? 0,
        keyHash: issued.keyHash,
      });
      this.#parts.log.info("Certificate issued", { node: request.node, role, token: token?.id });
      return {
        certificatePem: issued.certificatePem,
        authorityPem: authority.certificatePem,
        cluster: authority.cluster,
        role,
        addresses: this.planeAddresses(
          role === "control-plane" ? { name: request.node, addresses } : undefined,
        ),
        serverUnixS: unixSeconds(clock),
      };
    });
  }

  /** A certificate that reads in a member's name. Its removal refuses this one too, so the table knows when it was issued. */
  async signReader(
    authority: Authority,
    request: IssueRequest,
    issuedUnixMs: number,
  ): Promise<IssueResponse> {
    return await this.#parts.store.transact(async (tx) => {
      const member = await tx.get<Member>(MEMBERS, request.node);
      assertNotRemoved(request.node, issuedUnixMs, (member?.removedUnixS ?? 0) * 1000);
      if (member === undefined || !isMember(member)) {
        throw new ProblemError("NOT_A_MEMBER", {
          status: 409,
          detail: `Cannot issue a certificate that reads for ${request.node}: it is no member`,
          action: "Renew its own certificate first",
        });
      }
      const nowMs = this.#laterThan(member);
      const issued = await authority.issue(request.requestPem, {
        peer: { role: "reader", node: request.node },
        // It shows its machine's flows, and can pose as nothing else.
        hosts: [OBSERVER_NAME],
        nowMs,
        lifetimeMs: this.#parts.config.certificateLifetimeMs,
      });
      await tx.put(MEMBERS, request.node, {
        ...member,
        issuedUnixS: nowMs / 1000,
        expiresUnixS: Math.max(member.expiresUnixS, issued.notAfterUnixMs / 1000),
      });
      this.#parts.log.info("Certificate issued", { node: request.node, role: "reader" });
      return {
        certificatePem: issued.certificatePem,
        authorityPem: authority.certificatePem,
        cluster: authority.cluster,
        role: "reader",
        addresses: this.planeAddresses(),
        serverUnixS: unixSeconds(this.#parts.clock),
      };
    });
  }

  /** A certificate with which a person reads, and nothing else. It is listed, and revoked, among the tokens. */
  async signPerson(authority: Authority, request: IssueRequest): Promise<IssueResponse> {
    const { clock } = this.#parts;
    const { token } = makeToken(
      CreateTokenRequest.create({
        kind: "certificate",
        role: "viewer",
        name: request.node,
        lifetimeS: request.lifetimeS,
      }),
      this.#parts,
    );
    if (this.#parts.tokens.size >= TOKENS_MAX) throw full("tokens", TOKENS_MAX);
    const nowMs = clock.nowMs();
    const issued = await authority.issue(request.requestPem, {
      peer: { role: "viewer", node: token.id },
      hosts: [],
      nowMs,
      lifetimeMs: token.expiresUnixS * 1000 - nowMs,
    });
    await this.#parts.store.transact((tx) => tx.put(TOKENS, token.id, token));
    this.#parts.log.info("Certificate issued", { role: "viewer", name: request.node, token: token.id });
    return {
      certificatePem: issued.certificatePem,
      authorityPem: authority.certificatePem,
      cluster: authority.cluster,
      role: "viewer",
      addresses: this.planeAddresses(),
      serverUnixS: unixSeconds(clock),
    };
  }

  /** Unix ms later than everything that was issued or removed under this name, whatever the clocks of replicas say. */
  #laterThan(member: Member | undefined): number {
    return Math.max(
      this.#parts.clock.nowMs(),
      Math.ceil((member?.issuedUnixS ?? 0) * 1000) + 1,
      Math.ceil((member?.removedUnixS ?? 0) * 1000) + 1,
    );
  }

  endOf({ id, expiresUnixS }: Token): Omit<Withdrawal, "signature"> {
    return { kind: "token", name: id, withdrawnUnixS: unixSeconds(this.#parts.clock), expiresUnixS };
  }

  /** Where the control plane listens, `own` (not yet in the table) included. */
  planeAddresses(own?: { name: string; addresses: readonly string[] }): string[] {
    const members = this.#parts.members.list().filter((member) =>
      member.role === "control-plane" && isMember(member) && member.name !== own?.name
    );
    return [...new Set([...own?.addresses ?? [], ...members.flatMap(({ addresses }) => addresses)])];
  }
}

/** @throws {ProblemError} INVALID_ARGUMENT */
function addressesOf(addresses: readonly string[]): string[] {
  if (
    addresses.length > 0 && addresses.length <= ADDRESSES_MAX && addresses.every((one) => parseHostPort(one))
  ) {
    return [...addresses];
  }
  throw invalidArgument("Cannot issue a certificate of the control plane: where does it listen?", {
    found: addresses.join(", ").slice(0, 200) || "no address",
    expected: `1 to ${ADDRESSES_MAX} of ADDRESS:PORT`,
  });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** A table has no room. */
export function full(collection: string, max: number): ProblemError {
  return new ProblemError("TABLE_FULL", {
    status: 507,
    detail: `Cannot add to ${collection}: there are ${max} of ${max}`,
    found: max,
    expected: `fewer than ${max}`,
    action: "Remove what is no longer needed",
  });
}
