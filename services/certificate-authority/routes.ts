/** The authority's HTTP API. @module */
import {
  Authority,
  CreateTokenRequest,
  CreateTokenResponse,
  HandBackRequest,
  HandBackResponse,
  IssueRequest,
  IssueResponse,
  Member,
  RenewRequest,
  Token,
  Withdrawal,
} from "@weir/proto/certificate";
import { REQUEST_CHARS_MAX } from "./authority.ts";
import { CertificateAuthority, type CertificateAuthorityOptions } from "./certificate_authority.ts";
import { MEMBERS } from "./member.ts";
import { TOKENS } from "./token_table.ts";
import { WITHDRAWALS } from "./withdrawal_table.ts";

const BODY_BYTES_MAX = REQUEST_CHARS_MAX + 16_384;

/** The factory: everything that the authority needs comes in here. Call `start()` next. */
export function createCertificateAuthority(options: CertificateAuthorityOptions): CertificateAuthority {
  const authority = new CertificateAuthority(options);
  mountRoutes(authority);
  return authority;
}

function mountRoutes(authority: CertificateAuthority): void {
  const { api } = authority;
  api.action({
    path: "/v1/certificates:issue",
    request: IssueRequest,
    response: IssueResponse,
    bodyBytesMax: BODY_BYTES_MAX,
    handle: (request, { peer, remoteAddress }) => authority.issue(request, { peer, address: remoteAddress }),
    description: "A certificate for a machine with a join token",
  });
  api.action({
    path: "/v1/certificates:renew",
    request: RenewRequest,
    response: IssueResponse,
    bodyBytesMax: BODY_BYTES_MAX,
    handle: (request, { peer, issuedUnixMs }) => authority.renew(request, peer, issuedUnixMs ?? 0),
    description: "A new certificate for a machine that shows its present one",
  });
  api.action({
    method: "GET",
    path: "/v1/authority",
    response: Authority,
    handle: () => authority.describe(),
    description: "The authority's own certificate",
  });
  api.collection<Member>({
    name: MEMBERS,
    message: Member,
    table: authority.members,
    delete: (name) => authority.remove(name),
    description: "Machines of the cluster; DELETE refuses what was issued to one",
  });
  api.collection<Token>({
    name: TOKENS,
    message: Token,
    table: authority.tokens,
    delete: (id) => authority.revoke(id),
    description: "Join and access tokens, without their secrets",
  });
  api.action({
    path: "/v1/tokens",
    request: CreateTokenRequest,
    response: CreateTokenResponse,
    handle: (request) => authority.createToken(request),
    description: "A new token; the answer alone has its text",
  });
  api.collection<Withdrawal>({
    name: WITHDRAWALS,
    message: Withdrawal,
    table: authority.withdrawals,
    description: "What is not believed any more, signed, for every machine to keep",
  });
  api.action({
    path: "/v1/withdrawals:hand-back",
    request: HandBackRequest,
    response: HandBackResponse,
    handle: ({ items }) => authority.handBack(items),
    description: "Withdrawals that a database which was restored does not know",
  });
}
