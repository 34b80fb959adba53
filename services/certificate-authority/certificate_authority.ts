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
  type CreateTokenRequest,
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
  Backoff,
  type Clock,
  errorText,
  formatJoinToken,
  invalidArgument,
  type Logger,
  parseCertificate,
  type Peer,
  ProblemError,
  publicKeyHash,
  RateLimit,
  systemClock,
  unixSeconds,
  type WatchedTable,
} from "@weir/common";
import { type Database, Store } from "@weir/common/state";
import { Authority, createAuthority } from "./authority.ts";
import { type AuthorityConfig, type AuthorityParts, CONFIG_DEFAULT } from "./config.ts";
import { full, Issuer } from "./issuer.ts";
import { checkKnownAuthority } from "./known_authority.ts";
import { isMember, MEMBERS, MEMBERS_MAX } from "./member.ts";
import { ensureAuthority, MIGRATIONS } from "./schema.ts";
import { makeToken, NODE_NAME, TOKENS, TOKENS_MAX } from "./token_table.ts";
import { removalOf, WITHDRAWALS, WithdrawalTable } from "./withdrawal_table.ts";

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
  readonly #issuer: Issuer;
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
    this.#issuer = new Issuer({
      ...this.#parts,
      store: this.#store,
      members: this.members,
      tokens: this.tokens,
      withdrawals: this.#withdrawals,
      log: this.#log,
    });
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
      return await this.#issuer.signPerson(authority, request);
    }
    if (from.peer === undefined && request.role === "reader") {
      return await this.#issuer.signReader(authority, request, Infinity);
    }
    if (from.peer === undefined) {
      return await this.#issuer.sign(authority, request, { role: roleOf(request.role), force: true });
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
      return await this.#issuer.sign(authority, request, { secret: request.secret });
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
    if (request.role === "reader") return await this.#issuer.signReader(this.#ready(), asks, issuedUnixMs);
    return await this.#issuer.sign(this.#ready(), asks, {
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
      await this.#withdrawals.add(tx, authority, this.#issuer.endOf(token));
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
    if (token.kind === "join" && this.#issuer.planeAddresses().length === 0) {
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
      addresses: this.#issuer.planeAddresses(),
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
