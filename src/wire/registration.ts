/**
 * Registration of a receiver with a server, over a connected AF_UNIX SOCK_SEQPACKET socket. The client asks for a
 * slot in 8 bytes (type, flags, two reserved bytes, slot number in network order), the server answers 4 bytes and
 * then sends that slot's connections; a refusal is the end of the connection.
 */

export const REGISTRATION_BYTES = 8;
const REGISTER = 1;

/** The server's one answer. */
export const REGISTERED: Uint8Array = Uint8Array.of(0x80, 0, 0, 0);

export const SLOT_MAX = 0xffffffff;

export function encodeRegistration(slot: number): Uint8Array {
  const message = new Uint8Array(REGISTRATION_BYTES);
  message[0] = REGISTER;
  new DataView(message.buffer).setUint32(4, slot);
  return message;
}

/** The slot asked for; `undefined` when the message is not a registration. */
export function decodeRegistration(message: Uint8Array): number | undefined {
  if (message.length !== REGISTRATION_BYTES) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  return view.getUint32(0) === REGISTER << 24 ? view.getUint32(4) : undefined;
}

export function isRegistered(answer: Uint8Array): boolean {
  return answer.length === REGISTERED.length && answer.every((byte, index) => byte === REGISTERED[index]);
}
