//! In headless Chromium.
