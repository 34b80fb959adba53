/**
 * What questions may hold, and for how long.
 * @module
 */

/** Bytes of one message: TCP's length has 16 bits. */
export const MESSAGE_BYTES_MAX = 65_535;
/** Bytes of a name on the wire, with its lengths (RFC 1035, 3.1). */
export const NAME_BYTES_MAX = 255;
/** Pointers that one name may follow; each leads backwards, so that there is an end anyhow. */
export const NAME_POINTERS_MAX = 127;

/** Questions of all clients whose answers are to come, or are held. */
export const QUESTIONS_MAX = 16_384;
/** Of one endpoint, so that none takes what another one needs. */
export const ENDPOINT_QUESTIONS_MAX = 2048;
/** Of one connection, or of one flow of datagrams. */
export const FLOW_QUESTIONS_MAX = 1024;
/** A server that has not answered by then is not waited for any more; clients ask again after 5 s. */
export const ANSWER_MS_MAX = 10_000;

/** Bytes that wait to be written to one side of a TCP connection before no more is read. */
export const WAITING_BYTES_MAX = 256 * 1024;
/** Bytes that all TCP connections hold of messages of which more must come. */
export const HELD_BYTES_TOTAL_MAX = 64 * 1024 * 1024;

/**
 * Bytes of a question that goes on as a datagram: with its headers no more than every path of IPv6 takes (RFC 8200, 5). The proxy's socket hears nothing of
 * a smaller path, so a longer one would be lost without a word.
 */
export const DATAGRAM_QUESTION_BYTES_MAX = 1232;
/** Flows of datagrams that are known. */
export const DATAGRAM_FLOWS_MAX = 65_536;
/** Datagrams of one flow that wait until it is known whose it is. */
export const DATAGRAMS_EARLY_MAX = 32;
/** A flow without a datagram is forgotten: the datapath keeps its handle for longer. */
export const DATAGRAM_FLOW_MS = 10_000;

/** How long an answer is held until its addresses are in force. */
export const LEARN_MS_MAX = 2000;
/** The same of one that no policy of the asking endpoint waits for: who watches flows has the name with the first packet, mostly. */
export const FREE_MS_MAX = 100;
/** Answers that wait to be told; of more those that no policy waits for are not. */
export const WAITING_FREE_MAX = 8192;
/** Names whose addresses are told in one request; the endpoint manager takes as many. */
export const LEARN_NAMES_MAX = 1024;
/** Addresses of one such request, unless one name alone has more. */
export const LEARN_ADDRESSES_MAX = 8192;
/** Addresses of all endpoints that are known to be in force. */
export const LEARNED_ADDRESSES_MAX = 131_072;

/** Addresses and names of one record of an answer. */
export const RECORDED_MAX = 256;
