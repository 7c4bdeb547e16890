//! Monitors -> scrape configurations.
