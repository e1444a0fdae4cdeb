//! The libraries that ours is compared with: one initialization a sector, as their interfaces have it.

use std::ptr::{null, null_mut};

use aws_lc_sys::{
    EVP_CIPHER_CTX, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_CipherInit_ex, EVP_CipherUpdate,
    EVP_aes_256_cbc, EVP_aes_256_ctr, EVP_aes_256_ecb, EVP_aes_256_xts,
};
use foreign_types::ForeignTypeRef;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

/// AES under a key, sector by sector.
pub trait Library {
    fn sector(&mut self, iv: &[u8; 16], data: &mut [u8]);
}

pub struct AwsLc {
    context: *mut EVP_CIPHER_CTX,
    encrypt: bool,
}

impl AwsLc {
    pub fn new(spec: &str, key: &[u8], encrypt: bool) -> AwsLc {
        // SAFETY: constants of the library.
        let cipher = unsafe {
            match spec {
                "aes-xts-plain64" => EVP_aes_256_xts(),
                "aes-cbc-plain64" => EVP_aes_256_cbc(),
                "aes-ecb" => EVP_aes_256_ecb(),
                _ => EVP_aes_256_ctr(),
            }
        };
        // SAFETY: a new context, and a key as long as the cipher takes; no vector yet.
        let (context, done) = unsafe {
            let context = EVP_CIPHER_CTX_new();
            let (engine, iv) = (null_mut(), null());
            let way = encrypt.into();
            (
                context,
                EVP_CipherInit_ex(context, cipher, engine, key.as_ptr(), iv, way),
            )
        };
        assert_eq!(done, 1);
        AwsLc { context, encrypt }
    }
}

impl Library for AwsLc {
    fn sector(&mut self, iv: &[u8; 16], data: &mut [u8]) {
        let mut written = 0;
        // SAFETY: the context has its cipher and key, and the vector is as long as the cipher takes.
        let ready = unsafe {
            let way = self.encrypt.into();
            EVP_CipherInit_ex(self.context, null(), null_mut(), null(), iv.as_ptr(), way)
        };
        // SAFETY: whole blocks, in place; CBC keeps the last one back when it decrypts.
        let done = unsafe {
            let (to, from) = (data.as_mut_ptr(), data.as_ptr());
            let len = data.len() as i32;
            aws_lc_sys::EVP_CIPHER_CTX_set_padding(self.context, 0);
            EVP_CipherUpdate(self.context, to, &raw mut written, from, len)
        };
        assert_eq!((ready, done, written as usize), (1, 1, data.len()));
    }
}

impl Drop for AwsLc {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and freed here alone.
        unsafe { EVP_CIPHER_CTX_free(self.context) };
    }
}

pub struct OpenSsl {
    context: CipherCtx,
    encrypt: bool,
}

impl OpenSsl {
    pub fn new(spec: &str, key: &[u8], encrypt: bool) -> OpenSsl {
        let cipher = match spec {
            "aes-xts-plain64" => Cipher::aes_256_xts(),
            "aes-cbc-plain64" => Cipher::aes_256_cbc(),
            "aes-ecb" => Cipher::aes_256_ecb(),
            _ => Cipher::aes_256_ctr(),
        };
        let mut context = CipherCtx::new().expect("a context");
        match encrypt {
            true => context.encrypt_init(Some(cipher), Some(key), Some(&[0; 16])),
            false => context.decrypt_init(Some(cipher), Some(key), Some(&[0; 16])),
        }
        .expect("a key");
        context.set_padding(false);
        OpenSsl { context, encrypt }
    }
}

impl Library for OpenSsl {
    fn sector(&mut self, iv: &[u8; 16], data: &mut [u8]) {
        match self.encrypt {
            true => self.context.encrypt_init(None, None, Some(iv)),
            false => self.context.decrypt_init(None, None, Some(iv)),
        }
        .expect("a vector");
        self.context.set_padding(false);
        let len = data.len();
        let mut written = 0;
        // SAFETY: whole blocks, in place; the safe call wants room for one block more, which is never filled.
        let done = unsafe {
            let (to, from) = (data.as_mut_ptr(), data.as_ptr());
            let context = self.context.as_ptr();
            openssl_sys::EVP_CipherUpdate(context, to, &raw mut written, from, len as i32)
        };
        assert_eq!((done, written as usize), (1, len));
    }
}
