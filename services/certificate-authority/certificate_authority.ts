/**
 * The cluster's certificate authority: who is a member, and with what proof. A function from database, clock and
 * configuration to an HTTP handler.
 *
 *     join token (secret, n uses, expiry) ─┐
 *     certificate that is valid still ─────┼─▶ signed for the key in the request ─▶ member (issued, expires)
 *     local caller (the agent) ────────────┘
 *     removal ─▶ everything issued to this name up to now is refused, by every service that watches `members`
 *             ─▶ a signed withdrawal, which every machine keeps and hands back to a database that was restored
 *
 * @module
 */
import {
  type Authority as AuthorityMessage,
  CreateTokenRequest,
  type CreateTokenResponse,
  type HandBackResponse,
  IssueRequest,
  type IssueResponse,
  Member,
  type RenewRequest,
  Token,
  type Withdrawal,
} from "@weir/proto/certificate";
import {
  ACCESS_TOKEN_PREFIX,
  ApiServer,
  assertNotRemoved,
  Backoff,
  type Clock,
  errorText,
  formatJoinToken,
  invalidArgument,
  type Logger,
  OBSERVER_NAME,
  parseCertificate,
  parseHostPort,
  type Peer,
  ProblemError,
  publicKeyHash,
  systemClock,
  unixSeconds,
  type WatchedTable,
} from "@weir/common";
import { type Database, Store } from "@weir/common/state";
import { Authority, createAuthority } from "./authority.ts";
import { type AuthorityConfig, type AuthorityParts, CONFIG_DEFAULT } from "./config.ts";
import { checkKnownAuthority } from "./known_authority.ts";
import { RateLimit } from "./rate_limit.ts";
import { isMember, MEMBERS, MEMBERS_MAX } from "./member.ts";
import { ensureAuthority, MIGRATIONS } from "./schema.ts";
import { checkJoinSecret, makeToken, spend, TOKENS, TOKENS_MAX } from "./token_table.ts";
import { removalOf, WITHDRAWALS, WithdrawalTable } from "./withdrawal_table.ts";

/** Names of machines: as host names are. */
const NODE_NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;
const ADDRESSES_MAX = 8;
const SWEEP_MS = 60_000;
/** Expired tokens are shown for a day, so that "expired" can be said and not only "unknown". */
const TOKEN_KEPT_S = 86_400;

/** What the authority is built from. */
export interface CertificateAuthorityOptions {
  database: Database;
  clock?: Clock;
  config?: Partial<AuthorityConfig>;
  /** Its health, metrics and log are used. */
  api?: ApiServer;
}

/** The service, without its routes. Made by `createCertificateAuthority`. */
export class CertificateAuthority {
  readonly api: ApiServer;
  readonly members: WatchedTable<Member>;
  readonly tokens: WatchedTable<Token>;
  readonly #withdrawals: WithdrawalTable;
  readonly #store: Store;
  readonly #parts: AuthorityParts;
  readonly #log: Logger;
  readonly #failures = new RateLimit({ perKey: 10, inAll: 300 });
  #authority: Authority | undefined;
  #stop = new AbortController();
  #loops: Promise<void>[] = [];

  constructor(options: CertificateAuthorityOptions) {
    const { database, clock = systemClock } = options;
    this.api = options.api ?? new ApiServer({ name: "certificate-authority" });
    this.#log = this.api.log;
    this.#parts = { clock, config: { ...CONFIG_DEFAULT, ...options.config } };
    this.#store = new Store({
      database,
      clock,
      log: this.#log,
      health: this.api.health,
      migrations: MIGRATIONS,
    });
    this.members = this.#store.collection(MEMBERS, Member, { entriesMax: MEMBERS_MAX });
    this.tokens = this.#store.collection(TOKENS, Token, { entriesMax: TOKENS_MAX });
    this.#withdrawals = new WithdrawalTable(this.#store, this.members, { ...this.#parts, log: this.#log });
    const { metrics } = this.api;
    metrics.gauge("weir_members", "Machines that are or were members").collect(() => this.members.size);
  }

  get withdrawals(): WatchedTable<Withdrawal> {
    return this.#withdrawals.table;
  }

  /** Loads the state, makes the authority when there is none. With `wait: false` readiness tells. */
  async start(options: { wait?: boolean } = {}): Promise<void> {
    this.api.health.waitFor("authority", "waiting for the key");
    const loading = this.#checkKnown().then(async () => {
      if (this.#stop.signal.aborted) return;
      await this.#store.start({ wait: true });
      await this.#loadAuthority();
    });
    this.#loops.push(loading, this.#sweepLoop());
    if (options.wait !== false) await loading;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#store.stop();
    await Promise.allSettled(this.#loops);
  }

  /**
   * A certificate for a machine that shows a join token, or whose agent asks locally.
   * @throws {ProblemError} TOKEN_REFUSED, TOKEN_EXPIRED, TOKEN_USED, NAME_TAKEN, TOO_MANY_ATTEMPTS, REQUEST_INVALID
   */
  async issue(request: IssueRequest, from: { peer?: Peer; address?: string }): Promise<IssueResponse> {
    const authority = this.#ready();
    if (!NODE_NAME.test(request.node)) {
      throw invalidArgument("Cannot issue a certificate: this is no name of a machine", {
        found: request.node.slice(0, 80),
        expected: "1 to 253 letters, digits, dots and dashes",
        action: "Give another one: weir join TOKEN --node-name NAME",
      });
    }
    if (from.peer === undefined && request.role === "viewer") {
      return await this.#signPerson(authority, request);
    }
    if (from.peer === undefined && request.role === "reader") {
      return await this.#signReader(authority, request, Infinity);
    }
    if (from.peer === undefined) {
      return await this.#sign(authority, request, { role: roleOf(request.role), force: true });
    }
    const key = from.address ?? "", nowMs = this.#parts.clock.monotonicMs();
    const waitMs = this.#failures.waitMs(key, nowMs);
    if (waitMs > 0) {
      throw new ProblemError("TOO_MANY_ATTEMPTS", {
        status: 429,
        detail: "Cannot join now: too many attempts failed",
        expected: `a pause of ${Math.ceil(waitMs / 1000)} s`,
        action: "Wait, and check the token",
      });
    }
    try {
      return await this.#sign(authority, request, { secret: request.secret });
    } catch (error) {
      if ((error as ProblemError).status === 401) {
        this.#failures.failed(key, nowMs);
        this.#log.warn("Join refused", { from: key, node: request.node, error });
      }
      throw error;
    }
  }

  /**
   * A new certificate for a machine that shows its present one. With role "reader": one beside it, which reads and ends with it.
   * @param issuedUnixMs when the present one was issued, Unix milliseconds
   * @throws {ProblemError} CERTIFICATE_REMOVED, also when the listener has not heard of the removal yet
   */
  async renew(
    request: RenewRequest,
    peer: Peer | undefined,
    issuedUnixMs: number,
  ): Promise<IssueResponse> {
    if (peer === undefined || (peer.role !== "node" && peer.role !== "control-plane")) {
      throw invalidArgument("Cannot renew: only a machine with a certificate can", {
        found: peer?.role ?? "a local caller",
      });
    }
    if (request.role !== "" && request.role !== "reader") {
      throw invalidArgument("Cannot renew: a machine keeps the role that it has", {
        found: request.role.slice(0, 80),
        expected: 'reader, or ""',
      });
    }
    const asks = { ...IssueRequest.create(request), node: peer.node };
    if (request.role === "reader") return await this.#signReader(this.#ready(), asks, issuedUnixMs);
    return await this.#sign(this.#ready(), asks, {
      role: peer.role,
      force: true,
      renews: { issuedUnixMs },
    });
  }

  /** Refuses everything that was issued to this name so far. False when there was nothing to refuse. */
  async remove(name: string): Promise<boolean> {
    const authority = this.#ready();
    return await this.#store.transact(async (tx) => {
      const member = await tx.get<Member>(MEMBERS, name);
      if (member === undefined || !isMember(member)) return false;
      const removedUnixS = Math.max(unixSeconds(this.#parts.clock), member.issuedUnixS);
      const removed = { ...member, removedUnixS };
      await tx.put(MEMBERS, name, removed);
      await this.#withdrawals.add(tx, authority, removalOf(removed));
      this.#log.info("Member removed", { node: name });
      return true;
    });
  }

  /** Refuses a token from now on. False when there is none. */
  async revoke(id: string): Promise<boolean> {
    const authority = this.#ready();
    return await this.#store.transact(async (tx) => {
      const token = await tx.get<Token>(TOKENS, id);
      if (token === undefined) return false;
      await tx.delete(TOKENS, id);
      await this.#withdrawals.add(tx, authority, this.#endOf(token));
      return true;
    });
  }

  /** Takes withdrawals that this database does not know, see `WithdrawalTable`. */
  async handBack(items: readonly Withdrawal[]): Promise<HandBackResponse> {
    return await this.#withdrawals.handBack(this.#ready(), items);
  }

  /** The authority's own certificate. */
  describe(): AuthorityMessage {
    const authority = this.#ready();
    return {
      cluster: authority.cluster,
      authorityPem: authority.certificatePem,
      authorityHash: hashOfAuthority(authority),
    };
  }

  /** Makes a token; its text is told this once. */
  async createToken(request: CreateTokenRequest): Promise<CreateTokenResponse> {
    const authority = this.#ready();
    if (request.kind === "certificate") {
      throw invalidArgument("Cannot make a certificate without a key", {
        found: request.kind,
        expected: "join or access",
        action: "weir cluster certificate NAME --out DIR makes both",
      });
    }
    const { token, secret } = makeToken(request, this.#parts);
    if (token.kind === "join" && this.#planeAddresses().length === 0) {
      throw new ProblemError("NOT_REACHABLE", {
        status: 409,
        detail: "Cannot make a join token: the control plane listens for no other machine",
        action: "Start it with an address: weir agent --control-plane --listen ADDRESS",
      });
    }
    if (this.tokens.size >= TOKENS_MAX) throw full("tokens", TOKENS_MAX);
    await this.#store.transact((tx) => tx.put(TOKENS, token.id, token));
    const text = token.kind === "access" ? `${ACCESS_TOKEN_PREFIX}${token.id}_${secret}` : formatJoinToken({
      role: token.role === "control-plane" ? "control-plane" : "node",
      addresses: this.#planeAddresses(),
      authorityHash: hashOfAuthority(authority),
      secret: `${token.id}.${secret}`,
    });
    return { token, text };
  }

  /** What time does: tokens and removed members that no certificate can stand for any more are forgotten. */
  async sweep(): Promise<void> {
    const now = unixSeconds(this.#parts.clock);
    const oldTokens = this.tokens.list().filter(({ expiresUnixS: end }) =>
      end > 0 && end + TOKEN_KEPT_S < now
    );
    const oldMembers = this.members.list().filter((member) => !isMember(member) && member.expiresUnixS < now);
    const oldWithdrawals = this.#withdrawals.endedAt(now);
    if (oldTokens.length + oldMembers.length + oldWithdrawals.length === 0) return;
    await this.#store.transact(async (tx) => {
      for (const name of oldWithdrawals) await tx.delete(WITHDRAWALS, name);
      for (const { id } of oldTokens) await tx.delete(TOKENS, id);
      for (const { name } of oldMembers) {
        const member = await tx.get<Member>(MEMBERS, name);
        if (member !== undefined && !isMember(member)) await tx.delete(MEMBERS, name);
      }
    });
  }

  async #sign(
    authority: Authority,
    request: IssueRequest,
    by: { secret?: string; role?: string; force?: boolean; renews?: { issuedUnixMs: number } },
  ): Promise<IssueResponse> {
    const { clock, config } = this.#parts;
    return await this.#store.transact(async (tx) => {
      const token = by.role === undefined
        ? await checkJoinSecret(tx, this.#parts, by.secret ?? "")
        : undefined;
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
        if (before !== undefined && isMember(before) && before.expiresUnixS * 1000 > clock.nowMs()) {
          throw new ProblemError("NAME_TAKEN", {
            status: 409,
            detail: `Cannot join as ${request.node}: a machine of this name is a member`,
            found: `joined ${new Date(before.joinedUnixS * 1000).toISOString()}`,
            action:
              `Take another name (weir join TOKEN --node-name NAME), or remove it first: weir cluster remove ${request.node}`,
          });
        }
        if (before === undefined && this.members.size >= MEMBERS_MAX) throw full("members", MEMBERS_MAX);
        await spend(tx, token!);
        if (token!.usesLeft === 1) await this.#withdrawals.add(tx, authority, this.#endOf(token!));
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
      this.#log.info("Certificate issued", { node: request.node, role, token: token?.id });
      return {
        certificatePem: issued.certificatePem,
        authorityPem: authority.certificatePem,
        cluster: authority.cluster,
        role,
        addresses: this.#planeAddresses(
          role === "control-plane" ? { name: request.node, addresses } : undefined,
        ),
        serverUnixS: unixSeconds(clock),
      };
    });
  }

  /** A certificate that reads in a member's name. Its removal refuses this one too, so the table knows when it was issued. */
  async #signReader(
    authority: Authority,
    request: IssueRequest,
    issuedUnixMs: number,
  ): Promise<IssueResponse> {
    return await this.#store.transact(async (tx) => {
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
      this.#log.info("Certificate issued", { node: request.node, role: "reader" });
      return {
        certificatePem: issued.certificatePem,
        authorityPem: authority.certificatePem,
        cluster: authority.cluster,
        role: "reader",
        addresses: this.#planeAddresses(),
        serverUnixS: unixSeconds(this.#parts.clock),
      };
    });
  }

  /** A certificate with which a person reads, and nothing else. It is listed, and revoked, among the tokens. */
  async #signPerson(authority: Authority, request: IssueRequest): Promise<IssueResponse> {
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
    if (this.tokens.size >= TOKENS_MAX) throw full("tokens", TOKENS_MAX);
    const nowMs = clock.nowMs();
    const issued = await authority.issue(request.requestPem, {
      peer: { role: "viewer", node: token.id },
      hosts: [],
      nowMs,
      lifetimeMs: token.expiresUnixS * 1000 - nowMs,
    });
    await this.#store.transact((tx) => tx.put(TOKENS, token.id, token));
    this.#log.info("Certificate issued", { role: "viewer", name: request.node, token: token.id });
    return {
      certificatePem: issued.certificatePem,
      authorityPem: authority.certificatePem,
      cluster: authority.cluster,
      role: "viewer",
      addresses: this.#planeAddresses(),
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

  #endOf({ id, expiresUnixS }: Token): Omit<Withdrawal, "signature"> {
    return { kind: "token", name: id, withdrawnUnixS: unixSeconds(this.#parts.clock), expiresUnixS };
  }

  /** Where the control plane listens, `own` (not yet in the table) included. */
  #planeAddresses(own?: { name: string; addresses: readonly string[] }): string[] {
    const members = this.members.list().filter((member) =>
      member.role === "control-plane" && isMember(member) && member.name !== own?.name
    );
    return [...new Set([...own?.addresses ?? [], ...members.flatMap(({ addresses }) => addresses)])];
  }

  #ready(): Authority {
    if (this.#authority !== undefined) return this.#authority;
    throw new ProblemError("NOT_READY", {
      status: 503,
      detail: "Cannot issue certificates yet: the authority's key was not read from the database",
      action: "Try again; /readyz?verbose says what is waited for",
    });
  }

  /** Before anything is read from the database: members of another one are nobody's, and say nothing of who was removed. */
  #checkKnown(): Promise<void> {
    const { config: { cluster, authorityFile } } = this.#parts;
    return this.#untilDone(() => checkKnownAuthority(this.#store.database, cluster, authorityFile));
  }

  #loadAuthority(): Promise<void> {
    const { config, clock } = this.#parts;
    return this.#untilDone(async () => {
      const stored = await this.#store.transact(({ tx }) =>
        ensureAuthority(tx, config.cluster, () => createAuthority(config.cluster, clock.nowMs()))
      );
      const authority = await Authority.load(config.cluster, stored);
      await this.#withdrawals.signOld(authority);
      await this.#withdrawals.readKept(authority);
      this.#authority = authority;
      this.api.health.ok("authority", hashOfAuthority(this.#authority));
    });
  }

  /** Tries again until it succeeds; readiness says what is wrong. */
  async #untilDone(action: () => Promise<void>): Promise<void> {
    const { clock } = this.#parts;
    const backoff = new Backoff({ delayMsMin: 100, delayMsMax: 5000 });
    while (!this.#stop.signal.aborted) {
      try {
        return await action();
      } catch (error) {
        this.api.health.waitFor("authority", errorText(error));
        await clock.sleep(backoff.nextMs(), this.#stop.signal);
      }
    }
  }

  async #sweepLoop(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#parts.clock.sleep(SWEEP_MS, signal);
      if (signal.aborted || !this.#store.loaded) continue;
      await this.sweep().catch((error) => this.#log.warn("Sweep failed", { error: errorText(error) }));
    }
  }
}

function hashOfAuthority(authority: Authority): string {
  return publicKeyHash(parseCertificate(authority.certificatePem));
}

function roleOf(role: string): string {
  if (role === "node" || role === "control-plane") return role;
  throw invalidArgument("Cannot issue a certificate: there is no such role", {
    found: role,
    expected: "node or control-plane",
  });
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

function full(collection: string, max: number): ProblemError {
  return new ProblemError("TABLE_FULL", {
    status: 507,
    detail: `Cannot add to ${collection}: there are ${max} of ${max}`,
    found: max,
    expected: `fewer than ${max}`,
    action: "Remove what is no longer needed",
  });
}
