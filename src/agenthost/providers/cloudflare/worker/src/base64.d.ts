// JavaScript that workerd has, and that the library of TypeScript 5.9 does not declare.

interface Uint8Array {
  toBase64(): string;
}

interface Uint8ArrayConstructor {
  fromBase64(text: string): Uint8Array<ArrayBuffer>;
}
